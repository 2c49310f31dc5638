/** Bytes of the largest record that the brokers started here accept. */
export const maxMessageBytes = 16 * 1024 * 1024;

/** Kafka's settings that a started broker gets, as a process or in a container, by the names in server.properties. */
export function brokerSettings(nodes: number): Record<string, string> {
  const copies = String(nodes);
  const inSync = String(Math.max(1, nodes - 1));
  return {
    'auto.create.topics.enable': 'false',
    'default.replication.factor': copies,
    'min.insync.replicas': inSync,
    'offsets.topic.replication.factor': copies,
    'offsets.topic.num.partitions': '3',
    'transaction.state.log.replication.factor': copies,
    'transaction.state.log.min.isr': inSync,
    'transaction.state.log.num.partitions': '3',
    'group.initial.rebalance.delay.ms': '0',
    'message.max.bytes': String(maxMessageBytes),
    'replica.fetch.max.bytes': String(maxMessageBytes),
    // A broker that was killed may register again only when its old session is over: Kafka's 9 s would be waited for.
    'broker.session.timeout.ms': '4000',
    'broker.heartbeat.interval.ms': '500',
  };
}

/** The same settings as environment variables, as Kafka's images read them: `a.b` is `KAFKA_A_B`. */
export function asEnvironment(settings: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [`KAFKA_${name.replaceAll('.', '_').toUpperCase()}`, value]),
  );
}
