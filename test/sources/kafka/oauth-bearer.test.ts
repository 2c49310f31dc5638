import { describe, expect, it } from 'vitest';
import { oauthBearer, type TokenProvider } from '../../../src/sources/kafka/oauth-bearer.ts';

/** Logs in at a broker that answers so, and returns what it was sent. */
async function logIn(token: TokenProvider, answer = ''): Promise<string> {
  let sent = '';
  const saslAuthenticate = async ({ request, response }: { request: { encode(): Buffer }; response?: unknown }) => {
    const bytes = request.encode();
    expect(bytes.readInt32BE()).toBe(bytes.length - 4);
    sent = bytes.toString('utf8', 4);
    const { decode, parse } = response as { decode(bytes: Buffer): Buffer; parse(bytes: Buffer): string };
    return parse(decode(Buffer.from(`\0\0\0\0${answer}`)));
  };
  const { authenticationProvider } = oauthBearer(token);
  await authenticationProvider({
    host: 'h',
    port: 1,
    logger: null as never,
    saslAuthenticate: saslAuthenticate as never,
  }).authenticate();
  return sent;
}

describe('a token', () => {
  it('is sent in the form of RFC 7628, with its extensions', async () => {
    expect(await logIn(() => 'a.b-c')).toBe('n,,\u0001auth=Bearer a.b-c\u0001\u0001');
    const extended = await logIn(async () => ({ value: 'a', extensions: { logicalCluster: 'lkc-1', pool: 'p' } }));
    expect(extended).toBe('n,,\u0001auth=Bearer a\u0001logicalCluster=lkc-1\u0001pool=p\u0001\u0001');
  });

  it('that is refused is an error, which kafkajs does not try again', async () => {
    await expect(logIn(() => 'a', '{"status":"invalid_token"}')).rejects.toMatchObject({
      name: 'TokenRefused',
      retriable: false,
    });
  });

  it.each<[string, unknown]>([
    ['text that ends it early', 'a\u0001admin=true'],
    ['no text', undefined],
    ['an empty text', ''],
    ['an extension that is the token', { value: 'a', extensions: { auth: 'Bearer b' } }],
    ['an extension that ends early', { value: 'a', extensions: { pool: 'p\u0001' } }],
    ['an extension of another name', { value: 'a', extensions: { 'x=y': 'z' } }],
  ])('of another form is not sent: %s', async (_, token) => {
    await expect(logIn(() => token as string)).rejects.toMatchObject({
      name: 'NoToken',
      message: expect.stringMatching(/could not be had/),
    });
  });

  it('that cannot be had leaves nothing of the failure but its message', async () => {
    const failure = Object.assign(new Error('401'), { config: { data: 'client_secret=x' }, cause: 'client_secret=x' });
    const failed: unknown = await logIn(() => Promise.reject(failure)).catch((error: unknown) => error);
    expect(failed).toMatchObject({ message: 'the token could not be had: 401' });
    expect((failed as Error).cause).toBeUndefined();
    expect(JSON.stringify(failed)).not.toContain('client_secret');
  });
});
