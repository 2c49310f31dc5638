#!/bin/bash
# What the container runs. It lies at /etc/confluent/docker/run, where KafkaContainer calls it. Settings come from the
# environment as with the official images: KAFKA_MESSAGE_MAX_BYTES=1 is message.max.bytes=1.
set -euo pipefail

settings=/tmp/server.properties
echo 'log.dirs=/var/lib/kafka/data' >"$settings"
for name in $(compgen -e KAFKA_); do
  case $name in
    # Of other images and older versions: Apache Kafka 4 has no such settings.
    KAFKA_BROKER_ID | KAFKA_CONFLUENT_* | KAFKA_ZOOKEEPER_* | KAFKA_HEAP_OPTS) continue ;;
  esac
  key=${name#KAFKA_}
  key=${key,,}
  echo "${key//_/.}=${!name}" >>"$settings"
done

export CLASSPATH='/opt/kafka/libs/*'
quiet=-Dorg.slf4j.simpleLogger.defaultLogLevel=warn
# A broker of the tests is there for minutes: what Java would spend on code that runs for hours is half of its start.
quick=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC)
java -Xmx256m "${quick[@]}" "$quiet" kafka.tools.StorageTool format --ignore-formatted --cluster-id "${CLUSTER_ID:?}" --config "$settings"
exec java ${KAFKA_HEAP_OPTS:--Xmx1g} "${quick[@]}" "$quiet" kafka.Kafka "$settings"
