import type { Mechanism, SaslAuthenticationRequest } from 'kafkajs';

/** A bearer token, with the extensions that some providers want. */
export type OauthToken = string | { readonly value: string; readonly extensions?: Readonly<Record<string, string>> };
export type TokenProvider = () => OauthToken | Promise<OauthToken>;

const separator = '\u0001';
const tokenTimeoutMs = 30_000;

/** Is thrown where no token can be had. It keeps nothing of the provider's error but its message: what else is in there, nobody knows. */
export class NoToken extends Error {
  override readonly name = 'NoToken';
}

/** Is thrown where the broker says no. */
export class TokenRefused extends Error {
  override readonly name = 'TokenRefused';
  /** As kafkajs asks. */
  readonly retriable = false;
}

/**
 * Logs in by bearer token (RFC 7628). kafkajs's own way does not look at the broker's answer (2.2.4), so that a refused token
 * shows as a connection that was closed for no reason.
 */
export function oauthBearer(provider: TokenProvider): Mechanism {
  return {
    mechanism: 'oauthbearer',
    authenticationProvider: ({ saslAuthenticate }) => ({
      async authenticate() {
        const answer = await saslAuthenticate({ request: initialResponse(await tokenOf(provider)), response: text });
        // Empty where the token was accepted, else JSON with the reason.
        if (answer !== '') throw new TokenRefused('the broker refused the token');
      },
    }),
  };
}

const text = {
  // Behind its length.
  decode: (bytes: Buffer): Buffer => bytes.subarray(4),
  parse: (answer: Buffer): string => answer.toString('utf8'),
};

async function tokenOf(provider: TokenProvider): Promise<OauthToken> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${tokenTimeoutMs} ms`)), tokenTimeoutMs);
  });
  try {
    return requireToken(await Promise.race([Promise.resolve().then(provider), late]));
  } catch (error) {
    throw new NoToken(`the token could not be had: ${error instanceof Error ? error.message : 'something else was thrown'}`);
  } finally {
    clearTimeout(timer);
  }
}

/** The message is made of text with separators: whatever could end a part early is refused. */
function requireToken(token: OauthToken): OauthToken {
  const { value, extensions = {} } = typeof token === 'string' ? { value: token } : token;
  if (typeof value !== 'string' || !/^[A-Za-z0-9._~+/-]+=*$/.test(value))
    throw new Error('expected a token in the form of RFC 6750');
  for (const [name, extension] of Object.entries(extensions)) {
    // "auth" is the token itself.
    if (!/^[A-Za-z]+$/.test(name) || name === 'auth' || !/^[\x20-\x7e\t\r\n]*$/.test(extension)) {
      throw new Error('expected extensions in the form of RFC 7628');
    }
  }
  return token;
}

function initialResponse(token: OauthToken): SaslAuthenticationRequest {
  const { value, extensions = {} } = typeof token === 'string' ? { value: token } : token;
  const parts = Object.entries(extensions).map(([name, extension]) => `${name}=${extension}`);
  const message = Buffer.from(['n,,', `auth=Bearer ${value}`, ...parts, separator].join(separator));
  return {
    encode() {
      const length = Buffer.alloc(4);
      length.writeInt32BE(message.length);
      return Buffer.concat([length, message]);
    },
  };
}
