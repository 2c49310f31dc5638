export type { KafkaTransportOptions } from './kafka-options.ts';
export { kafkaTransport } from './kafka-transport.ts';
export type { OauthToken, TokenProvider } from './oauth-bearer.ts';
export type { KafkaSasl } from './sasl.ts';
export type { KafkaTls } from './tls.ts';
