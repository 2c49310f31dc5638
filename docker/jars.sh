#!/usr/bin/env bash
# Prints the folder with Apache Kafka's jars, and fetches them with Maven where they are not there yet.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
libs=$here/libs/$version

if [ ! -d "$libs" ]; then
  command -v mvn >/dev/null || { echo 'mvn not found: install Maven (Debian: maven)' >&2; exit 1; }
  mkdir -p "$here/libs"
  # Only a complete folder gets the final name: an interrupted or a second fetch does no harm.
  fetched=$(mktemp -d "$here/libs/.fetch-XXXXXX")
  trap 'rm -rf "$fetched"' EXIT
  mvn --quiet --batch-mode -Dstyle.color=never --file "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$fetched" >&2
  chmod 755 "$fetched"
  mv --no-target-directory "$fetched" "$libs" 2>/dev/null || [ -d "$libs" ]
fi

echo "$libs"
