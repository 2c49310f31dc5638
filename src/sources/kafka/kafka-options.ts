import * as v from 'valibot';
import { expectOption, parseOptions } from '../../options.ts';
import { Connections } from './connections.ts';
import { type KafkaSasl, saslSchema } from './sasl.ts';
import { type KafkaTls, secureContextOf, tlsSchema } from './tls.ts';

export interface KafkaTransportOptions {
  /** `host:port` of one broker or more; the others are learned from them. */
  readonly brokers: readonly string[];
  /** Default `'rxgrad'`. */
  readonly clientId?: string;
  /** Whether to encrypt, and by which certificates: `true` trusts those that Node.js trusts. Default `false`. */
  readonly ssl?: boolean | KafkaTls;
  readonly sasl?: KafkaSasl;
  /** Lets PLAIN send its password, and OAUTHBEARER its token, where everybody on the way can read it. Default `false`. */
  readonly allowSecretsWithoutTls?: boolean;
  /** How long one attempt to connect may take. Default 3000. */
  readonly connectTimeoutMs?: number;
  /**
   * How long brokers may be out of reach before a consumption or an append fails. Default 120000.
   *
   * One of several brokers that hangs (its connections stay open and nothing is answered) is noticed after 5 s. Partitions that others lead
   * are read on meanwhile, as soon as Kafka counts them as replicated without it; its own as soon as others lead them. Kafka takes
   * `broker.session.timeout.ms` (9 s) for both, so that reading goes on after 20 s at the latest.
   */
  readonly reconnectForMs?: number;
  /**
   * The largest record that is produced, and `max.message.bytes` of the topics that `createTopic` makes; answers of a broker
   * and compressed batches that would need clearly more memory are not read. Default 96 MiB.
   */
  readonly maxRecordBytes?: number;
  /** Of the topics that `createTopic` makes. Default: the broker's. */
  readonly replicationFactor?: number;
}

/** What was given, checked: certificates are in a context, from which they cannot be read. */
export type KafkaSettings = ReturnType<typeof kafkaSettings>;

const whole = v.pipe(v.number(), v.safeInteger('a whole number'));
const milliseconds = v.pipe(v.number(), v.minValue(1), v.maxValue(2 ** 31 - 1));
const brokersDefault = -1;
const mostRecordBytes = 900 * 2 ** 20;

const schema = v.strictObject({
  brokers: v.pipe(
    v.array(v.pipe(v.string(), v.regex(/^[^\s,]+:\d{1,5}$/, 'host:port'))),
    v.nonEmpty('at least one host:port'),
    v.readonly(),
  ),
  clientId: v.optional(v.pipe(v.string(), v.nonEmpty('a name')), 'rxgrad'),
  ssl: v.optional(
    v.lazy((ssl) => (typeof ssl === 'object' ? tlsSchema : v.boolean('true, false, or certificates'))),
    false,
  ),
  sasl: v.optional(saslSchema),
  allowSecretsWithoutTls: v.optional(v.boolean(), false),
  connectTimeoutMs: v.optional(milliseconds, 3000),
  reconnectForMs: v.optional(v.pipe(v.number(), v.minValue(0)), 120_000),
  maxRecordBytes: v.optional(v.pipe(whole, v.minValue(1), v.maxValue(mostRecordBytes)), 96 * 2 ** 20),
  replicationFactor: v.optional(v.pipe(whole, v.minValue(brokersDefault), v.maxValue(32_767)), brokersDefault),
});

const where = 'kafkaTransport';

/** Checks options, and that they give away no secret. */
export function kafkaSettings(options: KafkaTransportOptions) {
  const { ssl, allowSecretsWithoutTls, ...settings } = parseOptions(schema, options, where, isSecret);
  const tls = ssl === false ? null : secureContextOf(ssl === true ? {} : ssl, `${where}: ssl`);
  const mechanism = settings.sasl?.mechanism;
  if (!tls && mechanism !== undefined) {
    const expected = `ssl with ${mechanism}, whose secret is sent as it is (or allowSecretsWithoutTls: true)`;
    if (!mechanism.startsWith('SCRAM')) expectOption(allowSecretsWithoutTls, `${where}: ssl`, expected, 'none');
    else warnOfScram(mechanism);
  }
  return { ...settings, tls, connections: new Connections('the transport was closed'), silent: new Set<string>() };
}

/** Nobody knows what was put where: of all that has to do with certificates and passwords only the mechanism is shown. */
function isSecret(path: string): boolean {
  return /^(ssl|sasl|$)/.test(path) && path !== 'sasl.mechanism';
}

let warned = false;

function warnOfScram(mechanism: string): void {
  if (warned) return;
  warned = true;
  process.emitWarning(
    `Without ssl, ${mechanism} lets everybody on the way read all records, and guess at the password: set ssl`,
    { type: 'SecurityWarning', code: 'RXGRAD_SCRAM_WITHOUT_TLS' },
  );
}
