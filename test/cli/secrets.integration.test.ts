import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { channel } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type KafkaSasl, type KafkaTransportOptions, kafkaTransport } from '../../src/sources/kafka/index.ts';
import { certificate } from '../broker/certificates.ts';
import { example } from '../inference/onnx/example-models.ts';
import { type SecureCluster, secureCluster } from '../sources/kafka/secure-cluster.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { path: model } = example('logistic');
const mechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const;
const nowhere = ['127.0.0.1:9'];

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe.skipIf(inject('clusterMissing'))('a secret', () => {
  let secure: SecureCluster;

  beforeAll(async () => {
    secure = await secureCluster();
  });
  afterAll(() => secure?.stop());

  function rxgrad(environment: Readonly<Record<string, string>>, ...args: string[]): Promise<Run> {
    const flags = ['--disable-warning=ExperimentalWarning', '--disable-warning=TimeoutNegativeWarning'];
    return new Promise((resolve) => {
      const options = { env: { PATH: process.env.PATH ?? '', ...environment } };
      execFile(process.execPath, [...flags, `${root}dist/src/cli/main.js`, ...args], options, (error, stdout, stderr) => {
        resolve({ code: Number(error?.code ?? 0), stdout, stderr });
      });
    });
  }

  const momentum = ['run', 'momentum', '--model', model, '--topic', 'gradients'];
  const connect = (brokers: readonly string[]) => ({
    KAFKA_BROKERS: brokers.join(','),
    KAFKA_SSL_CA: `${secure.folder}/authority.pem`,
  });
  const login = (password: string, mechanism: string = 'PLAIN') => ({
    KAFKA_SASL_MECHANISM: mechanism,
    KAFKA_SASL_USERNAME: 'plain',
    KAFKA_SASL_PASSWORD: password,
  });

  it.each(mechanisms)('that is wrong ends the command line with one line and exit code 1, by %s', async (mechanism) => {
    const password = randomSecret();
    const { code, stdout, stderr } = await rxgrad(
      { ...connect(secure.brokers.SASL), ...login(password, mechanism) },
      ...momentum,
    );
    expect(code).toBe(1);
    expect(stderr.trim().split('\n')).toEqual([
      expect.stringMatching(/the broker refused the credentials.*RXGRAD_TRANSPORT_FAILED/),
    ]);
    expectNone(stdout + stderr, password);
  });

  it('that is right lets the command line in, from a file', async () => {
    const config = {
      brokers: secure.brokers.SASL,
      ssl: { ca: 'authority.pem' },
      sasl: { mechanism: 'SCRAM-SHA-256', username: 'scram', passwordFile: 'password' },
    };
    writeFileSync(join(secure.folder, 'password'), `${secure.password}\n`);
    writeFileSync(join(secure.folder, 'kafka.json'), JSON.stringify(config));
    const args = ['run', 'drift', '--events', '300', '--kafka-config', join(secure.folder, 'kafka.json')];
    const { code, stdout, stderr } = await rxgrad({}, ...args);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('all');
    expectNone(stdout + stderr, secure.password);
  });

  it('is in nothing that the command line prints', async () => {
    const password = randomSecret();
    const folder = secure.folder;
    writeFileSync(join(folder, 'broken.json'), `{ "sasl": { "password": "${password}" `);
    writeFileSync(
      join(folder, 'unknown.json'),
      JSON.stringify({ brokers: nowhere, sasl: { mechanism: 'PLAIN', pass: password } }),
    );
    writeFileSync(join(folder, 'other.pem'), certificate('other').cert);
    const runs = await Promise.all([
      rxgrad({ ...connect(nowhere), ...login(password) }, ...momentum, '--help'),
      rxgrad({ ...connect(nowhere), ...login(password) }, ...momentum),
      rxgrad({ ...connect(secure.brokers.SASL), ...login(password, 'GSSAPI') }, ...momentum),
      rxgrad({ ...connect(secure.brokers.SASL), ...login(password), KAFKA_SSL_CA: join(folder, 'other.pem') }, ...momentum),
      rxgrad({ ...login(password), KAFKA_BROKERS: nowhere.join() }, ...momentum),
      rxgrad({ ...connect(nowhere), ...login(password), KAFKA_SASL_PASSWORD_FILE: password }, ...momentum),
      rxgrad(
        { ...connect(nowhere), KAFKA_SSL_KEY_PASSPHRASE: password, KAFKA_SSL_KEY: password, KAFKA_SSL_CERT: password },
        ...momentum,
      ),
      rxgrad({}, ...momentum, '--kafka-config', join(folder, 'broken.json')),
      rxgrad({}, ...momentum, '--kafka-config', join(folder, 'unknown.json')),
    ]);
    expect(runs.map(({ code }) => code)).toEqual([0, ...new Array(runs.length - 1).fill(1)]);
    for (const { stdout, stderr } of runs) expectNone(stdout + stderr, password);
    for (const { stderr } of runs.slice(1)) expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(runs[0]!.stdout).toContain('KAFKA_SASL_PASSWORD_FILE');
  });

  it('is in no error, warning or log of the transport', async (context) => {
    const logged: unknown[] = [];
    const keep = (entry: unknown) => logged.push(entry);
    channel('rxgrad:sources:log').subscribe(keep);
    process.on('warning', keep);
    context.onTestFinished(() => {
      channel('rxgrad:sources:log').unsubscribe(keep);
      process.off('warning', keep);
    });
    const { SASL, OPEN, PLAINTEXT, MUTUAL } = secure.brokers;
    const ca = secure.authority.cert;
    for (const mechanism of [...mechanisms, 'OAUTHBEARER'] as const) {
      const password = randomSecret();
      const sasl: KafkaSasl =
        mechanism === 'OAUTHBEARER' ? { mechanism, token: () => password } : { mechanism, username: 'plain', password };
      const ways: KafkaTransportOptions[] = [
        { brokers: SASL, ssl: { ca }, sasl },
        { brokers: SASL, ssl: true, sasl },
        { brokers: SASL, ssl: { ca: certificate('other').cert }, sasl },
        { brokers: OPEN, sasl, allowSecretsWithoutTls: true },
        { brokers: PLAINTEXT, sasl, allowSecretsWithoutTls: true },
        { brokers: SASL, sasl, allowSecretsWithoutTls: true },
        { brokers: MUTUAL, ssl: { ca }, sasl },
        { brokers: nowhere, ssl: { ca }, sasl },
      ];
      for (const options of ways) {
        const transport = kafkaTransport(options);
        const errors = await Promise.all([
          transport.createTopic('any').catch((error: unknown) => error),
          transport.produce('any', [{ value: null }]).catch((error: unknown) => error),
          transport.consume({ topic: 'any', deliver() {}, onError: keep }).catch((error: unknown) => error),
        ]);
        await transport.close();
        expect(errors.map((error) => error instanceof Error)).toEqual([true, true, true]);
        expectNone(shown([transport, errors]), password);
      }
      expectNone(shown(logged), password);
    }
    expect(logged.length).toBeGreaterThan(20);
  });
});

/** Of a form that a token has, too. */
function randomSecret(): string {
  return `s${randomBytes(15).toString('base64url')}`;
}

function shown(value: unknown): string {
  return (
    inspect(value, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxStringLength: null, maxArrayLength: null }) +
    JSON.stringify(value)
  );
}

/** By itself, in base64 wherever in a text it begins, and as bytes. */
function expectNone(text: string, secret: string): void {
  expect(text).not.toContain(secret);
  for (const before of ['', 'x', 'xx']) {
    const encoded = Buffer.from(before + secret).toString('base64');
    expect(text).not.toContain(encoded.slice(4, -4));
  }
  expect(text.toLowerCase()).not.toContain(Buffer.from(secret).toString('hex'));
  expect(text).not.toContain([...Buffer.from(secret)].join(','));
}
