import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { fromTransport, KafkaCheckpoints } from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, inject, it, type TestContext } from 'vitest';
import { type KafkaSasl, type KafkaTransportOptions, kafkaTransport } from '../../../src/sources/kafka/index.ts';
import type { Transport } from '../../../src/sources/transport.ts';
import { certificate } from '../../broker/certificates.ts';
import { checkpointOf, model, warningsOf } from '../../checkpoints/courses.ts';
import { collect } from '../collector.ts';
import { type SecureCluster, secureCluster } from './secure-cluster.ts';

type Login = (secure: SecureCluster) => Omit<KafkaTransportOptions, 'brokers'>;

const passphrase = 'opens the file';
const { AclResourceTypes, AclOperationTypes, ResourcePatternTypes, AclPermissionTypes } = kafkajs;

describe.skipIf(inject('clusterMissing'))('kafkaTransport on a broker that asks who comes', () => {
  let secure: SecureCluster;
  let pfx: Buffer;

  beforeAll(async () => {
    const folder = mkdtempSync(join(tmpdir(), 'rxgrad-pfx-'));
    const keytool = (...args: string[]) =>
      execFileSync('keytool', [...args, '-alias', 'pfx', '-keystore', `${folder}/pfx.p12`, '-storepass', passphrase], {
        stdio: 'pipe',
      });
    keytool('-genkeypair', '-keyalg', 'EC', '-groupname', 'secp256r1', '-dname', 'CN=pfx', '-storetype', 'PKCS12');
    const trusted = String(keytool('-exportcert', '-rfc'));
    pfx = readFileSync(`${folder}/pfx.p12`);
    rmSync(folder, { recursive: true });
    secure = await secureCluster([trusted]);
  });
  afterAll(() => secure?.stop());

  function open(context: TestContext, options: KafkaTransportOptions): Transport {
    const transport = kafkaTransport(options);
    context.onTestFinished(() => transport.close());
    return transport;
  }

  /** A topic that users may use for what is named: of them, nobody else may. */
  async function topicFor(
    context: TestContext,
    rights: readonly (readonly [user: string, ...operations: ('READ' | 'WRITE' | 'DESCRIBE_CONFIGS')[]])[],
  ) {
    const admin = new kafkajs.Kafka({ brokers: [...secure.brokers.PLAINTEXT], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    context.onTestFinished(() => admin.disconnect());
    const topic = `secure-${randomUUID()}`;
    await admin.createTopics({ topics: [{ topic }] });
    const allow = { host: '*', permissionType: AclPermissionTypes.ALLOW };
    const acl = rights.flatMap(([user, ...operations]) =>
      operations.map((operation) => ({
        ...allow,
        resourceType: AclResourceTypes.TOPIC,
        resourceName: topic,
        resourcePatternType: ResourcePatternTypes.LITERAL,
        principal: `User:${user}`,
        operation: AclOperationTypes[operation],
      })),
    );
    const readers = rights.filter(([, ...operations]) => operations.includes('READ'));
    const groups = readers.map(([user]) => ({
      ...allow,
      resourceType: AclResourceTypes.GROUP,
      resourceName: 'rxgrad-',
      resourcePatternType: ResourcePatternTypes.PREFIXED,
      principal: `User:${user}`,
      operation: AclOperationTypes.READ,
    }));
    const writers = rights.filter(([, ...operations]) => operations.includes('WRITE'));
    const transactions = writers.map(([user]) => ({
      ...allow,
      resourceType: AclResourceTypes.TRANSACTIONAL_ID,
      resourceName: topic,
      resourcePatternType: ResourcePatternTypes.LITERAL,
      principal: `User:${user}`,
      operation: AclOperationTypes.WRITE,
    }));
    await admin.createAcls({ acl: [...acl, ...groups, ...transactions] });
    return topic;
  }

  const ssl = () => ({ ca: secure.authority.cert });
  const by =
    (sasl: (secure: SecureCluster) => KafkaSasl): Login =>
    (of) => ({ ssl: ssl(), sasl: sasl(of) });

  it.for<[string, 'SASL' | 'OPEN' | 'MUTUAL', Login]>([
    ['PLAIN', 'SASL', by((of) => of.sasl('PLAIN'))],
    ['SCRAM-SHA-256', 'SASL', by((of) => of.sasl('SCRAM-SHA-256'))],
    ['SCRAM-SHA-512', 'SASL', by((of) => of.sasl('SCRAM-SHA-512'))],
    ['OAUTHBEARER', 'SASL', by((of) => ({ mechanism: 'OAUTHBEARER', token: async () => of.token('oauth') }))],
    ['PLAIN without encryption, which was allowed', 'OPEN', (of) => ({ sasl: of.sasl('PLAIN'), allowSecretsWithoutTls: true })],
    ['its certificate and key', 'MUTUAL', ({ client: { cert, key } }) => ({ ssl: { ...ssl(), cert, key } })],
    ['a file of PKCS #12', 'MUTUAL', () => ({ ssl: { ...ssl(), pfx, passphrase } })],
  ])('writes and reads after it showed who it is by %s', async ([, listener, login], context) => {
    const transport = open(context, { brokers: secure.brokers[listener], ...login(secure) });
    const topic = `secure-${randomUUID()}`;
    await transport.createTopic(topic);
    // More than one read of the socket, and than one record of TLS.
    const large = Buffer.alloc(300_000, 'x');
    await transport.produce(topic, [{ value: Buffer.from('a') }, { value: large }]);
    const collector = await collect(context, transport, { topic });
    await transport.produce(topic, [{ value: Buffer.from('b') }]);
    await collector.until(3);
    expect(collector.texts()).toEqual(['a', String(large), 'b']);
  });

  const credentials = /the broker refused the credentials/;
  it.for<[string, 'PLAINTEXT' | 'SASL' | 'MUTUAL', Login, RegExp]>([
    ['a wrong password by PLAIN', 'SASL', by((of) => ({ ...of.sasl('PLAIN'), password: 'no' }) as KafkaSasl), credentials],
    [
      'a wrong password by SCRAM',
      'SASL',
      by((of) => ({ ...of.sasl('SCRAM-SHA-256'), password: 'no' }) as KafkaSasl),
      credentials,
    ],
    ['an unknown user', 'SASL', by((of) => of.sasl('SCRAM-SHA-512', 'nobody')), credentials],
    [
      'a token that has expired',
      'SASL',
      by((of) => ({ mechanism: 'OAUTHBEARER', token: () => of.token('oauth', -3600) })),
      credentials,
    ],
    ['a token that cannot be had', 'SASL', by(() => ({ mechanism: 'OAUTHBEARER', token: failing })), /no answer from nowhere/],
    ['no credentials', 'SASL', () => ({ ssl: ssl() }), /closed the connection. Check ssl and sasl/],
    ['credentials where none are asked for', 'PLAINTEXT', (of) => ({ sasl: of.sasl('SCRAM-SHA-256') }), /Check sasl and ssl/],
    ['an authority that nobody knows', 'SASL', (of) => ({ ssl: true, sasl: of.sasl('PLAIN') }), /is not trusted .*ssl.ca/],
    ['another authority', 'SASL', () => ({ ssl: { ca: certificate('other').cert } }), /is not trusted .*ssl.ca/],
    ['another host name', 'SASL', () => ({ ssl: { ...ssl(), servername: 'other.example' } }), /another host .*other.example/],
    ['TLS to a port without', 'PLAINTEXT', () => ({ ssl: ssl() }), /does this port of the broker speak TLS/],
    ['no TLS to a port with it', 'MUTUAL', () => ({}), /wants an encrypted connection .*Set ssl/],
    ['no certificate', 'MUTUAL', () => ({ ssl: ssl() }), /does not accept this client's certificate.*ssl.cert/],
    ['a certificate of another authority', 'MUTUAL', () => foreign(), /does not accept this client's certificate.*ssl.cert/],
  ])('ends at once and says what to check: %s', async ([, listener, login, message], context) => {
    // What is tried again is so for longer than a test may take.
    const options = { brokers: secure.brokers[listener], reconnectForMs: 3_600_000, ...login(secure) };
    const ways: ((transport: Transport) => Promise<unknown>)[] = [
      (transport) => transport.createTopic('any'),
      (transport) => transport.produce('any', [{ value: Buffer.from('a') }]),
      (transport) => collect(context, transport, { topic: 'any' }),
    ];
    for (const way of ways) {
      const failed = await way(open(context, options)).catch((error: unknown) => error);
      expect(failed).toMatchObject({ key: 'transportFailed', message: expect.stringMatching(message) });
      expect((failed as Error).message).not.toContain('\n');
    }
  });

  const failing = () => Promise.reject(new Error('no answer from nowhere'));
  function foreign() {
    const { cert, key } = certificate('client');
    return { ssl: { ...ssl(), cert, key } };
  }

  it('needs no rights but those that the documentation names', async (context) => {
    const topic = await topicFor(context, [
      ['worker', 'WRITE'],
      ['learner', 'READ'],
    ]);
    const [worker, learner] = ['worker', 'learner'].map((user) =>
      open(context, { brokers: secure.brokers.SASL, ssl: ssl(), sasl: secure.sasl('SCRAM-SHA-256', user) }),
    );
    const collector = await collect(context, learner!, { topic, group: `rxgrad-${randomUUID()}` });
    await worker!.produce(topic, [{ value: Buffer.from('a') }]);
    const writer = await worker!.writer(topic);
    await writer.write([{ topic, value: Buffer.from('b') }]);
    await collector.until(2);
    const refused = { key: 'transportFailed', message: expect.stringMatching(/not authorized.*the right to/i) };
    await expect(learner!.produce(topic, [{ value: Buffer.from('b') }])).rejects.toMatchObject(refused);
    await expect(collect(context, worker!, { topic })).rejects.toMatchObject(refused);
    await expect(worker!.writer('of another')).rejects.toMatchObject(refused);
  });

  it('keeps checkpoints in a topic that its user may read and write', async (context) => {
    const topic = await topicFor(context, [['worker', 'READ', 'WRITE']]);
    const sasl = secure.sasl('SCRAM-SHA-256', 'worker');
    const transport = open(context, { brokers: secure.brokers.SASL, ssl: ssl(), sasl });
    const store = new KafkaCheckpoints(transport, { topic, transactionalId: topic });
    await store.takeOver();
    await store.write(1, checkpointOf(model()));
    expect((await store.list()).map(({ version }) => version)).toEqual([1]);
    await store.close();
  });

  it('asks for CREATE only where a topic is to be created, and names it', async (context) => {
    const topic = await topicFor(context, [
      ['worker', 'WRITE'],
      ['learner', 'READ'],
    ]);
    for (const user of ['worker', 'learner']) {
      const sasl = secure.sasl('SCRAM-SHA-256', user);
      const transport = open(context, { brokers: secure.brokers.SASL, ssl: ssl(), sasl });
      await transport.createTopic(topic);
      const message = expect.stringMatching(/not authorized to create topic "other".*the right CREATE on topic "other"/);
      await expect(transport.createTopic('other')).rejects.toMatchObject({ key: 'transportFailed', message });
    }
  });

  it('shows settings to those who may see them, and warns the others once that nothing was checked', async (context) => {
    const topic = await topicFor(context, [
      ['worker', 'WRITE', 'DESCRIBE_CONFIGS'],
      ['learner', 'READ'],
    ]);
    const [worker, learner] = ['worker', 'learner'].map((user) =>
      open(context, { brokers: secure.brokers.SASL, ssl: ssl(), sasl: secure.sasl('SCRAM-SHA-256', user) }),
    );
    expect(await worker!.topicSettings!(topic)).toMatchObject({ compacted: false, maxMessageBytes: 16_777_216 });
    expect(await learner!.topicSettings!(topic)).toBe(null);
    const reading = () => lastValueFrom(fromTransport(learner!, { topic, until: 'end' }), { defaultValue: null });
    const warnings = await warningsOf(async () => {
      await reading();
      await reading();
    });
    expect(warnings).toMatchObject([
      { code: 'RXGRAD_TOPIC_SETTINGS_UNKNOWN', message: expect.stringContaining(`--operation DescribeConfigs --topic ${topic}`) },
    ]);
  });

  it('ends a running consumption, and what appends, when the user is gone', async (context) => {
    const topic = await topicFor(context, [['revoked', 'READ', 'WRITE']]);
    const sasl = secure.sasl('SCRAM-SHA-256', 'revoked');
    const transport = open(context, { brokers: secure.brokers.SASL, ssl: ssl(), sasl, reconnectForMs: 3_600_000 });
    const gone = Promise.withResolvers<Error>();
    const collector = await collect(context, transport, { topic, onError: gone.resolve });
    await transport.produce(topic, [{ value: Buffer.from('a') }]);
    await collector.until(1);
    const [broker] = secure.cluster.nodes;
    const user = ['--entity-type', 'users', '--entity-name', 'revoked', '--delete-config', 'SCRAM-SHA-256'];
    await broker!.command('kafka.admin.ConfigCommand', '--bootstrap-server', secure.cluster.brokers, '--alter', ...user);
    expect(await gone.promise).toMatchObject({ key: 'transportFailed', message: expect.stringMatching(credentials) });
    await expect(transport.produce(topic, [{ value: Buffer.from('b') }])).rejects.toThrow(credentials);
  });

  it('logs in again after a restart of the broker', async (context) => {
    const transport = open(context, { brokers: secure.brokers.SASL, ssl: ssl(), sasl: secure.sasl('SCRAM-SHA-512') });
    const topic = `secure-${randomUUID()}`;
    await transport.createTopic(topic);
    const collector = await collect(context, transport, { topic });
    await transport.produce(topic, [{ value: Buffer.from('a') }]);
    await collector.until(1);
    await secure.cluster.nodes[0]!.kill();
    const appended = transport.produce(topic, [{ value: Buffer.from('b') }]);
    await secure.cluster.nodes[0]!.start();
    await appended;
    await collector.until(2);
    expect(collector.texts()).toEqual(['a', 'b']);
  });
});
