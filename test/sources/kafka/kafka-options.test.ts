import { once } from 'node:events';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type KafkaTransportOptions, kafkaTransport } from '../../../src/sources/kafka/index.ts';

const brokers = ['127.0.0.1:1'];
const secret = 'gR4d1ent$ecret';
const login = { username: 'u', password: secret };

describe('kafkaTransport', () => {
  it.each<[object, string]>([
    [{ brokers: [] }, 'brokers: expected at least one host:port'],
    [{ brokers: ['nowhere'] }, 'brokers.0: expected host:port, got "nowhere"'],
    [{ ssl: secret }, 'ssl: expected true, false, or certificates, got what is of type string'],
    [{ ssl: { key: 1, cert: secret } }, 'ssl.key: expected PEM as text or bytes, got what is of type number'],
    [{ ssl: { passwort: secret } }, 'ssl.passwort: expected no such option'],
    [{ sasl: secret }, 'sasl: expected Object, got what is of type string'],
    [{ sasl: login }, 'sasl.mechanism: expected '],
    [{ sasl: { mechanism: 'GSSAPI', ...login } }, 'got "GSSAPI"'],
    [{ sasl: { mechanism: 'plain', ...login } }, 'got "plain"'],
    [{ sasl: { mechanism: 'PLAIN', password: secret } }, 'sasl.username: expected a value, got none'],
    [{ sasl: { mechanism: 'PLAIN', username: 'u' } }, 'sasl.password: expected a value, got none'],
    [{ sasl: { mechanism: 'PLAIN', username: 'u', password: '' } }, 'sasl.password: expected a text, got none'],
    [{ sasl: { mechanism: 'PLAIN', username: 'u', password: [secret] } }, 'sasl.password: expected string, got an array'],
    [{ sasl: { mechanism: 'PLAIN', username: 'u', password: `${secret}\0` } }, 'sasl.password: expected a text without NUL'],
    [{ sasl: { mechanism: 'SCRAM-SHA-256', ...login, token: secret } }, 'sasl.token: expected no such option'],
    [{ sasl: { mechanism: 'OAUTHBEARER', token: secret } }, 'sasl.token: expected a function that gives a token'],
    [{ reconnectForMs: -1 }, 'reconnectForMs: expected >=0, got -1'],
    [{ maxRecordBytes: 2 ** 40 }, 'maxRecordBytes: expected <=943718400'],
    [{ [secret]: 1, retries: 1 }, 'expected no such option'],
  ])('refuses what cannot be: %o', (options, message) => {
    const failed = failureOf({ brokers, ssl: true, ...options } as KafkaTransportOptions);
    expect(failed).toMatchObject({ key: 'invalidOption', message: expect.stringContaining(message) });
    if (!(secret in options)) expect(inspect(failed, { depth: null })).not.toContain(secret);
  });

  it.each([{ mechanism: 'PLAIN', ...login } as const, { mechanism: 'OAUTHBEARER', token: () => secret } as const])(
    'refuses $mechanism without encryption, but where that is allowed',
    (sasl) => {
      expect(failureOf({ brokers, sasl })).toMatchObject({
        key: 'invalidOption',
        message: expect.stringMatching(/ssl: expected ssl with .*allowSecretsWithoutTls/),
      });
      expect(failureOf({ brokers, sasl, ssl: false })).toMatchObject({ key: 'invalidOption' });
      expect(failureOf({ brokers, sasl, allowSecretsWithoutTls: true })).toBeNull();
      expect(failureOf({ brokers, sasl, ssl: true })).toBeNull();
    },
  );

  it('warns of SCRAM without encryption, once', async () => {
    const warned = once(process, 'warning');
    for (let i = 0; i < 2; i++) expect(failureOf({ brokers, sasl: { mechanism: 'SCRAM-SHA-256', ...login } })).toBeNull();
    const [warning] = await warned;
    expect(warning).toMatchObject({ name: 'SecurityWarning', code: 'RXGRAD_SCRAM_WITHOUT_TLS' });
    expect(String(warning)).not.toContain(secret);
  });

  it('shows no secret of its own', () => {
    const transport = kafkaTransport({ brokers, ssl: true, sasl: { mechanism: 'PLAIN', ...login } });
    expect(inspect(transport, { depth: null, showHidden: true })).not.toContain(secret);
    expect(JSON.stringify(transport)).not.toContain(secret);
  });
});

function failureOf(options: KafkaTransportOptions): unknown {
  try {
    kafkaTransport(options);
    return null;
  } catch (error) {
    return error;
  }
}
