import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaSasl } from '../../../src/sources/kafka/index.ts';
import { type Certificate, certificate } from '../../broker/certificates.ts';
import { ProcessCluster } from '../../broker/process-cluster.ts';

export interface SecureCluster {
  readonly cluster: ProcessCluster;
  /** By listener: PLAINTEXT, SASL (in SASL_SSL), OPEN (in SASL_PLAINTEXT) and MUTUAL (asks for certificates). */
  readonly brokers: Readonly<Record<'PLAINTEXT' | 'SASL' | 'OPEN' | 'MUTUAL', readonly string[]>>;
  readonly authority: Certificate;
  /** What the listener MUTUAL takes. */
  readonly client: Certificate;
  readonly folder: string;
  readonly password: string;
  sasl(mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512', username?: string): KafkaSasl;
  /** A token that Kafka's validator for tests takes. */
  token(subject: string, lifetimeSeconds?: number): string;
  stop(): Promise<void>;
}

/** Users that may do only what they are given. The others, named by mechanism, may do everything. */
export const limitedUsers = ['worker', 'learner', 'revoked'] as const;
const login = 'org.apache.kafka.common.security';

/** Starts a broker that wants to know who comes, with certificates and passwords made for it. */
export async function secureCluster(trusted: readonly string[] = []): Promise<SecureCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-secure-'));
  const authority = certificate('rxgrad test authority');
  const server = certificate('broker', { issuer: authority, hosts: ['127.0.0.1', 'localhost'] });
  const client = certificate('client', { issuer: authority });
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  write('authority.pem', authority.cert);
  write('client.pem', client.cert);
  write('client.key', client.key);
  const password = randomBytes(18).toString('base64url');
  const keystore = {
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.location': write('server.pem', server.key + server.cert),
    'ssl.truststore.type': 'PEM',
    'ssl.truststore.location': write('trusted.pem', [authority.cert, ...trusted].join('')),
  };
  const sasl = {
    'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER',
    'plain.sasl.jaas.config': `${login}.plain.PlainLoginModule required user_plain="${password}";`,
    'scram-sha-256.sasl.jaas.config': `${login}.scram.ScramLoginModule required;`,
    // kafkajs logs in again 10 s before the end.
    'scram-sha-256.connections.max.reauth.ms': '11500',
    'scram-sha-512.sasl.jaas.config': `${login}.scram.ScramLoginModule required;`,
    'oauthbearer.sasl.jaas.config': `${login}.oauthbearer.OAuthBearerLoginModule required;`,
    'oauthbearer.sasl.server.callback.handler.class': `${login}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler`,
  };
  const scramUsers = [
    ...['scram', ...limitedUsers].map((name) => `SCRAM-SHA-256=[name=${name},password=${password}]`),
    `SCRAM-SHA-512=[name=scram,password=${password}]`,
  ];
  try {
    const cluster = await ProcessCluster.start({
      listeners: {
        SASL: { protocol: 'SASL_SSL', properties: { ...keystore, ...sasl } },
        OPEN: { protocol: 'SASL_PLAINTEXT', properties: sasl },
        MUTUAL: { protocol: 'SSL', properties: { ...keystore, 'ssl.client.auth': 'required' } },
      },
      properties: {
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        'super.users': 'User:ANONYMOUS;User:plain;User:scram;User:oauth;User:CN=client;User:CN=pfx',
      },
      scramUsers,
    });
    return {
      cluster,
      brokers: {
        PLAINTEXT: [cluster.brokers],
        SASL: [cluster.addressOf('SASL')],
        OPEN: [cluster.addressOf('OPEN')],
        MUTUAL: [cluster.addressOf('MUTUAL')],
      },
      authority,
      client,
      folder,
      password,
      sasl: (mechanism, username = mechanism === 'PLAIN' ? 'plain' : 'scram') => ({ mechanism, username, password }),
      token,
      async stop() {
        await cluster.stop();
        rmSync(folder, { recursive: true });
      },
    };
  } catch (error) {
    rmSync(folder, { recursive: true });
    throw error;
  }
}

function token(subject: string, lifetimeSeconds = 3600): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part({ sub: subject, iat: now, exp: now + lifetimeSeconds })}.`;
}
