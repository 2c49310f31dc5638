import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { expectOption, parseOptions } from '../options.ts';
import type { KafkaTransportOptions } from '../sources/kafka/kafka-options.ts';

/** What a file or the environment says of how to connect. */
interface Facts {
  readonly ssl?: boolean | undefined;
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly pfx?: string | undefined;
  readonly passphrase?: string | undefined;
  readonly passphraseFile?: string | undefined;
  readonly servername?: string | undefined;
  readonly mechanism?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly passwordFile?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly allowSecretsWithoutTls?: boolean | undefined;
}

type Fact = keyof Facts;
/** Those of an option of the transport's that is the same wherever it comes from. */
export type KafkaSecurity = Pick<KafkaTransportOptions, 'ssl' | 'sasl' | 'allowSecretsWithoutTls'>;

/** Each fact's variable. Of the values, none is ever shown. */
export const kafkaVariables: Readonly<Record<Fact, string>> = {
  ssl: 'KAFKA_SSL',
  ca: 'KAFKA_SSL_CA',
  cert: 'KAFKA_SSL_CERT',
  key: 'KAFKA_SSL_KEY',
  pfx: 'KAFKA_SSL_PFX',
  passphrase: 'KAFKA_SSL_KEY_PASSPHRASE',
  passphraseFile: 'KAFKA_SSL_KEY_PASSPHRASE_FILE',
  servername: 'KAFKA_SSL_SERVERNAME',
  mechanism: 'KAFKA_SASL_MECHANISM',
  username: 'KAFKA_SASL_USERNAME',
  password: 'KAFKA_SASL_PASSWORD',
  passwordFile: 'KAFKA_SASL_PASSWORD_FILE',
  tokenFile: 'KAFKA_SASL_TOKEN_FILE',
  allowSecretsWithoutTls: 'KAFKA_ALLOW_SECRETS_WITHOUT_TLS',
};

const text = v.optional(v.pipe(v.string(), v.nonEmpty('a text')));
const tlsFile = v.strictObject({
  ca: text,
  cert: text,
  key: text,
  pfx: text,
  passphrase: text,
  passphraseFile: text,
  servername: text,
});
const fileSchema = v.strictObject({
  brokers: v.optional(v.pipe(v.array(v.string()), v.nonEmpty('at least one host:port'))),
  ssl: v.optional(v.lazy((ssl) => (typeof ssl === 'object' ? tlsFile : v.boolean('true, false, or names of files')))),
  sasl: v.optional(
    v.strictObject({ mechanism: v.string(), username: text, password: text, passwordFile: text, tokenFile: text }),
  ),
  allowSecretsWithoutTls: v.optional(v.boolean()),
});
const mostFileBytes = 1 << 20;
const certificateFacts = ['ca', 'cert', 'key', 'pfx', 'passphrase', 'passphraseFile', 'servername'] as const;
const loginFacts = ['username', 'password', 'passwordFile', 'tokenFile'] as const;

/** Reads how to connect from the environment. */
export function securityOfEnvironment(environment: Readonly<Record<string, string | undefined>>): KafkaSecurity {
  // As everywhere, an empty variable is none.
  const value = (fact: Fact) => environment[kafkaVariables[fact]] || undefined;
  const facts = Object.fromEntries((Object.keys(kafkaVariables) as Fact[]).map((fact) => [fact, value(fact)]));
  const yesOrNo = (fact: Fact) => ({ [fact]: switched(value(fact), kafkaVariables[fact]) });
  const name = (fact: Fact) => kafkaVariables[fact];
  return securityOf({ ...facts, ...yesOrNo('ssl'), ...yesOrNo('allowSecretsWithoutTls') }, name, process.cwd());
}

/** Reads how to connect from a file of JSON. Files that it names are looked for beside it. */
export function securityOfFile(path: string): KafkaSecurity & { readonly brokers?: readonly string[] | undefined } {
  const { brokers, ssl, sasl, allowSecretsWithoutTls } = parseOptions(
    fileSchema,
    parsed(path),
    path,
    (key) => key !== 'sasl.mechanism',
  );
  const facts: Facts = {
    ...(typeof ssl === 'object' ? { ssl: true, ...ssl } : { ssl }),
    ...sasl,
    allowSecretsWithoutTls,
  };
  const name = (fact: Fact) => `${path}: ${placeOf(fact)}`;
  return { ...securityOf(facts, name, dirname(path)), brokers };
}

function placeOf(fact: Fact): string {
  if (fact === 'ssl' || fact === 'allowSecretsWithoutTls') return fact;
  return (certificateFacts as readonly Fact[]).includes(fact) ? `ssl.${fact}` : `sasl.${fact}`;
}

function securityOf(facts: Facts, name: (fact: Fact) => string, folder: string): KafkaSecurity {
  const bytes = (fact: Fact) =>
    facts[fact] === undefined ? undefined : contentOf(resolve(folder, String(facts[fact])), name(fact));
  const oneOf = (fact: Fact, file: Fact): string | undefined => {
    expectOption(facts[fact] === undefined || facts[file] === undefined, name(file), `either it or ${name(fact)}`, 'both');
    return (facts[fact] as string | undefined) ?? lineOf(bytes(file), name(file));
  };
  const certificate = certificateFacts.find((fact) => facts[fact] !== undefined);
  expectOption(facts.ssl !== false || !certificate, name('ssl'), `true with ${name(certificate ?? 'ca')}`, 'false');
  const given = {
    ca: bytes('ca'),
    cert: bytes('cert'),
    key: bytes('key'),
    pfx: bytes('pfx'),
    passphrase: oneOf('passphrase', 'passphraseFile'),
    servername: facts.servername,
  };
  const tls = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const password = oneOf('password', 'passwordFile');
  const sasl = saslOf(facts, password, name, () => lineOf(bytes('tokenFile'), name('tokenFile'))!);
  return {
    ssl: certificate ? tls : (facts.ssl ?? false),
    ...(sasl ? { sasl } : {}),
    allowSecretsWithoutTls: facts.allowSecretsWithoutTls ?? false,
  };
}

function saslOf(
  { mechanism, username, tokenFile, ...facts }: Facts,
  password: string | undefined,
  name: (fact: Fact) => string,
  token: () => string,
): KafkaSecurity['sasl'] {
  const login = loginFacts.find((fact) => ({ username, tokenFile, ...facts })[fact] !== undefined);
  const mechanisms = 'PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER';
  if (mechanism === undefined) {
    expectOption(login === undefined, name('mechanism'), `${mechanisms} with ${name(login ?? 'username')}`, 'none');
    return undefined;
  }
  const named = mechanism.toUpperCase();
  if (named === 'OAUTHBEARER') {
    expectOption(tokenFile !== undefined, name('tokenFile'), 'a file with the token', 'none');
    // Whoever renews the token writes it there: it is read again with each connection.
    return { mechanism: named, token };
  }
  expectOption(
    named === 'PLAIN' || named === 'SCRAM-SHA-256' || named === 'SCRAM-SHA-512',
    name('mechanism'),
    mechanisms,
    mechanism,
  );
  expectOption(username !== undefined, name('username'), `a name with ${named}`, 'none');
  expectOption(password !== undefined, name('password'), `a password with ${named}, or ${name('passwordFile')}`, 'none');
  return { mechanism: named, username, password };
}

function switched(value: string | undefined, name: string): boolean | undefined {
  if (value === undefined) return undefined;
  expectOption(/^(true|false|1|0)$/i.test(value), name, 'true or false', 'another value');
  return value === '1' || value.toLowerCase() === 'true';
}

/** Reads a file; where that fails, without its name: who takes a variable for another has put a password there. */
function contentOf(path: string, name: string): Buffer {
  let size: number;
  try {
    size = statSync(path).size;
    if (size <= mostFileBytes) return readFileSync(path);
  } catch (error) {
    const got = (error as NodeJS.ErrnoException).code ?? 'none';
    throw new RxgradError('invalidOption', { option: name, expected: 'the name of a file that can be read', got });
  }
  throw new RxgradError('invalidOption', { option: name, expected: `a file of at most ${mostFileBytes} bytes`, got: size });
}

/** The first line's text: editors end it with a line break. */
function lineOf(content: Buffer | undefined, name: string): string | undefined {
  if (content === undefined) return undefined;
  const line = content.toString('utf8').replace(/\r?\n$/, '');
  expectOption(line !== '' && !line.includes('\n'), name, 'a file of one line', line === '' ? 'an empty one' : 'several');
  return line;
}

/** The parser's message would show a piece of the file. */
function parsed(path: string): unknown {
  const json = contentOf(path, `--kafka-config ${path}`).toString('utf8');
  try {
    return JSON.parse(json);
  } catch (error) {
    const [place = 'something else'] = /line \d+ column \d+/.exec((error as Error).message) ?? [];
    throw new RxgradError('invalidOption', { option: path, expected: 'JSON', got: `an error at ${place}` });
  }
}
