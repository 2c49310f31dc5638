#!/usr/bin/env bash
# Sees to it that a Docker engine answers. Where one does, nothing happens and nothing is printed; otherwise it starts one
# (as root) and prints its process id: `kill` ends it. The vfs driver asks nothing of the file system below.
set -euo pipefail

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

answers && exit 0
[ "$(id -u)" = 0 ] || { echo 'No Docker engine answers, and only root can start one.' >&2; exit 1; }

missing=()
command -v dockerd >/dev/null || missing+=(docker.io)
command -v iptables >/dev/null || missing+=(iptables)
if [ ${#missing[@]} -gt 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
fi
# Since Debian 13 the client is a package of its own.
command -v docker >/dev/null || apt-get install -qq --yes --no-install-recommends docker-cli >/dev/null

log=$(mktemp "${TMPDIR:-/tmp}/dockerd-XXXXXX.log")
setsid dockerd --storage-driver=vfs </dev/null >"$log" 2>&1 &
engine=$!

for _ in {1..120}; do
  if answers; then
    echo "$engine"
    exit 0
  fi
  kill -0 "$engine" 2>/dev/null || break
  sleep 0.5
done

kill "$engine" 2>/dev/null || true
{
  echo "The Docker engine does not start on this machine (it needs root and the right to mount and to change iptables). $log ends:"
  tail -n 8 "$log"
} >&2
exit 1
