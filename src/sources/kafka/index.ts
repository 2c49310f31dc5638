export { type KafkaTransportOptions, kafkaTransport } from './kafka-transport.ts';
