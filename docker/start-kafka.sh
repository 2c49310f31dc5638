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
java -Xmx256m "$quiet" kafka.tools.StorageTool format --ignore-formatted --cluster-id "${CLUSTER_ID:?}" --config "$settings"
exec java ${KAFKA_HEAP_OPTS:--Xmx1g} "$quiet" kafka.Kafka "$settings"
