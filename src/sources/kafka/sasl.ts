import type { Mechanism, SASLOptions } from 'kafkajs';
import * as v from 'valibot';
import { oauthBearer, type TokenProvider } from './oauth-bearer.ts';

/** How a client says who it is. */
export type KafkaSasl =
  | {
      readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512';
      readonly username: string;
      readonly password: string;
    }
  | {
      readonly mechanism: 'OAUTHBEARER';
      /** Is asked whenever a connection is made, and again before the broker's session ends. Keeps the token while it is valid. */
      readonly token: TokenProvider;
    };

// NUL separates the two in PLAIN.
const credential = v.pipe(v.string(), v.nonEmpty('a text'), v.regex(/^[^\0]*$/, 'a text without NUL'));

export const saslSchema = v.variant('mechanism', [
  v.strictObject({
    mechanism: v.picklist(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512']),
    username: credential,
    password: credential,
  }),
  v.strictObject({
    mechanism: v.literal('OAUTHBEARER'),
    token: v.custom<TokenProvider>((token) => typeof token === 'function', 'a function that gives a token'),
  }),
]);

/** The same in kafkajs's form. */
export function authentication(sasl: KafkaSasl): SASLOptions | Mechanism {
  if (sasl.mechanism === 'OAUTHBEARER') return oauthBearer(sasl.token);
  const { mechanism, username, password } = sasl;
  if (mechanism === 'PLAIN') return { mechanism: 'plain', username, password };
  if (mechanism === 'SCRAM-SHA-256') return { mechanism: 'scram-sha-256', username, password };
  return { mechanism: 'scram-sha-512', username, password };
}
