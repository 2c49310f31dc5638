import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { inspect } from 'node:util';
import { describe, expect, it, type TestContext } from 'vitest';
import { kafkaVariables, securityOfEnvironment, securityOfFile } from '../../src/cli/kafka-settings.ts';

const secret = 'gR4d1ent$ecret';
const scram = { KAFKA_SASL_MECHANISM: 'scram-sha-512', KAFKA_SASL_USERNAME: 'u' };

function folderWith(t: TestContext, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-settings-`);
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(`${folder}/${name}`, text);
  return folder;
}

function failureOf(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}

describe('the environment', () => {
  it('says nothing by default, also where variables are empty', () => {
    const none = { ssl: false, allowSecretsWithoutTls: false };
    expect(securityOfEnvironment({})).toEqual(none);
    expect(securityOfEnvironment(Object.fromEntries(Object.values(kafkaVariables).map((name) => [name, ''])))).toEqual(none);
  });

  it('names files of certificates, and one of a password', (t) => {
    const folder = folderWith(t, { 'ca.pem': 'CA', 'client.pem': 'CERT', 'client.key': 'KEY', password: `${secret}\n` });
    const security = securityOfEnvironment({
      ...scram,
      KAFKA_SSL_CA: `${folder}/ca.pem`,
      KAFKA_SSL_CERT: `${folder}/client.pem`,
      KAFKA_SSL_KEY: `${folder}/client.key`,
      KAFKA_SSL_KEY_PASSPHRASE: 'p',
      KAFKA_SASL_PASSWORD_FILE: `${folder}/password`,
    });
    expect(security).toEqual({
      ssl: { ca: Buffer.from('CA'), cert: Buffer.from('CERT'), key: Buffer.from('KEY'), passphrase: 'p' },
      sasl: { mechanism: 'SCRAM-SHA-512', username: 'u', password: secret },
      allowSecretsWithoutTls: false,
    });
  });

  it.each(['1', 'true', 'TRUE'])('turns encryption on by KAFKA_SSL=%s', (value) => {
    const security = securityOfEnvironment({ KAFKA_SSL: value, ...scram, KAFKA_SASL_PASSWORD: secret });
    expect(security).toMatchObject({ ssl: true, sasl: { password: secret } });
  });

  it('names a file with a token, which is read each time', async (t) => {
    const folder = folderWith(t, { token: 'a.b.c\n' });
    const { sasl } = securityOfEnvironment({ KAFKA_SASL_MECHANISM: 'OAUTHBEARER', KAFKA_SASL_TOKEN_FILE: `${folder}/token` });
    if (sasl?.mechanism !== 'OAUTHBEARER') throw new Error('expected OAUTHBEARER');
    expect(await sasl.token()).toBe('a.b.c');
    writeFileSync(`${folder}/token`, 'd.e.f');
    expect(await sasl.token()).toBe('d.e.f');
  });

  it.each<[Record<string, string>, string]>([
    [{ KAFKA_SSL: secret }, 'KAFKA_SSL: expected true or false, got another value'],
    [{ KAFKA_SSL: 'false', KAFKA_SSL_SERVERNAME: 'b' }, 'KAFKA_SSL: expected true with KAFKA_SSL_SERVERNAME, got false'],
    [{ KAFKA_SSL_KEY: secret }, 'KAFKA_SSL_KEY: expected the name of a file that can be read, got ENOENT'],
    [{ KAFKA_SSL_CA: tmpdir() }, 'KAFKA_SSL_CA: expected the name of a file that can be read, got EISDIR'],
    [
      { KAFKA_SASL_USERNAME: 'u' },
      'KAFKA_SASL_MECHANISM: expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER with KAFKA_SASL_USERNAME',
    ],
    [{ KAFKA_SASL_PASSWORD: secret }, 'KAFKA_SASL_MECHANISM: expected'],
    [
      { KAFKA_SASL_MECHANISM: 'GSSAPI' },
      'KAFKA_SASL_MECHANISM: expected PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, got GSSAPI',
    ],
    [{ KAFKA_SASL_MECHANISM: 'PLAIN', KAFKA_SASL_PASSWORD: secret }, 'KAFKA_SASL_USERNAME: expected a name with PLAIN, got none'],
    [scram, 'KAFKA_SASL_PASSWORD: expected a password with SCRAM-SHA-512, or KAFKA_SASL_PASSWORD_FILE, got none'],
    [
      { ...scram, KAFKA_SASL_PASSWORD_FILE: secret },
      'KAFKA_SASL_PASSWORD_FILE: expected the name of a file that can be read, got ENOENT',
    ],
    [
      { ...scram, KAFKA_SASL_PASSWORD: secret, KAFKA_SASL_PASSWORD_FILE: 'x' },
      'KAFKA_SASL_PASSWORD_FILE: expected either it or KAFKA_SASL_PASSWORD, got both',
    ],
    [{ KAFKA_SASL_MECHANISM: 'OAUTHBEARER' }, 'KAFKA_SASL_TOKEN_FILE: expected a file with the token, got none'],
  ])('is refused where it cannot be: %o', (environment, message) => {
    const failed = failureOf(() => securityOfEnvironment(environment));
    expect(failed).toMatchObject({ key: 'invalidOption', message: expect.stringContaining(message) });
    expect(inspect(failed, { depth: null })).not.toContain(secret);
  });
});

describe('a file', () => {
  it('says the same, with names of files beside it', (t) => {
    const ssl = { ca: 'ca.pem', servername: 'kafka.example' };
    const sasl = { mechanism: 'SCRAM-SHA-256', username: 'u', passwordFile: 'password' };
    const config = JSON.stringify({ brokers: ['a:1'], ssl, sasl });
    const folder = folderWith(t, { 'ca.pem': 'CA', password: secret, 'kafka.json': config });
    expect(securityOfFile(`${folder}/kafka.json`)).toEqual({
      brokers: ['a:1'],
      ssl: { ca: Buffer.from('CA'), servername: 'kafka.example' },
      sasl: { mechanism: 'SCRAM-SHA-256', username: 'u', password: secret },
      allowSecretsWithoutTls: false,
    });
  });

  it.for<[string, RegExp]>([
    [`{ "sasl": { "password": "${secret}" `, /kafka\.json: expected JSON, got an error at line 1 column \d+/],
    [`"${secret}"`, /kafka\.json: expected Object, got what is of type string/],
    [`{ "passwort": "${secret}" }`, /kafka\.json: passwort: expected no such option/],
    [`{ "sasl": { "mechanism": "PLAIN", "pass": "${secret}" } }`, /sasl\.pass: expected no such option/],
    [
      `{ "sasl": { "mechanism": "PLAIN", "username": "u", "password": ["${secret}"] } }`,
      /sasl\.password: expected string, got an array/,
    ],
    [
      `{ "sasl": { "mechanism": "PLAIN", "username": "u" } }`,
      /kafka\.json: sasl\.password: expected a password with PLAIN, or .*sasl\.passwordFile/,
    ],
    [
      `{ "sasl": { "mechanism": "PLAIN", "username": "u", "passwordFile": "${secret}" } }`,
      /sasl\.passwordFile: expected .* got ENOENT/,
    ],
    [
      '{ "sasl": { "mechanism": "PLAIN", "username": "u", "passwordFile": "lines" } }',
      /expected a file of one line, got several/,
    ],
    [
      '{ "sasl": { "mechanism": "PLAIN", "username": "u", "passwordFile": "empty" } }',
      /expected a file of one line, got an empty one/,
    ],
    ['{ "ssl": { "ca": "large" } }', /ssl\.ca: expected a file of at most 1048576 bytes, got 1048577/],
  ])('is refused where it cannot be: %s', ([json, message], t) => {
    const large = 'x'.repeat(1_048_577);
    const folder = folderWith(t, { 'kafka.json': json, lines: `${secret}\n${secret}\n`, empty: '\n', large });
    const failed = failureOf(() => securityOfFile(`${folder}/kafka.json`));
    expect(failed).toMatchObject({ key: 'invalidOption', message: expect.stringMatching(message) });
    expect(inspect(failed, { depth: null })).not.toContain(secret);
  });
});
