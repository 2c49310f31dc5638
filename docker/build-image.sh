#!/usr/bin/env bash
# Builds an image of Apache Kafka out of this machine: the jars from Maven, a Java runtime from its JDK, its bash. No image
# registry takes part. usage: docker/build-image.sh [TAG]
# KafkaContainer reads the tag as a version and uses KRaft from 8.0.0 on, whatever Kafka's own version is.
set -euo pipefail

tag=${1:-local/kafka:8.1.0}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v jlink >/dev/null || { echo 'jlink not found: install a JDK of 17 or later (Debian: default-jdk-headless)' >&2; exit 1; }

jars=$("$here/jars.sh")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root"/{bin,etc/confluent/docker,opt/kafka,tmp,var/lib/kafka}
chmod 1777 "$root/tmp"

cp -r "$jars" "$root/opt/kafka/libs"
install -m 755 "$here/start-kafka.sh" "$root/etc/confluent/docker/run"
jlink --output "$root/opt/java" --strip-debug --no-header-files --no-man-pages \
  --add-modules java.se,jdk.crypto.ec,jdk.management,jdk.unsupported

# All that KafkaContainer and the start command call besides Java.
for program in bash sleep; do
  cp "$(command -v "$program")" "$root/bin/$program"
done
ln -s bash "$root/bin/sh"

# The C libraries of all these programs, at the paths where their loader looks.
find "$root/bin" "$root/opt/java" -type f \( -perm -u+x -o -name '*.so' \) -exec ldd {} + 2>/dev/null |
  awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/.*[^:]$/ { print $1 }' | sort -u |
  while read -r library; do
    case $library in "$root"*) continue ;; esac
    mkdir -p "$root$(dirname "$library")"
    cp --dereference "$library" "$root$library"
  done

tar --create --directory "$root" . | docker import \
  --change 'ENV PATH=/opt/java/bin:/bin' --change 'CMD ["/etc/confluent/docker/run"]' - "$tag" >/dev/null
docker image inspect --format "$tag {{.Size}} bytes" "$tag"
