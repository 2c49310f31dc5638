import { createServer } from 'node:tls';
import { describe, expect, it, type TestContext, vi } from 'vitest';
import { type KafkaTls, kafkaTransport } from '../../../src/sources/kafka/index.ts';
import { type Certificate, type CertificateOptions, certificate } from '../../broker/certificates.ts';

const authority = certificate('authority');
const hosts = ['127.0.0.1'];

/** What nobody answers at but TLS itself. */
async function listening(context: TestContext, { cert, key }: Certificate, onConnection = () => {}): Promise<string> {
  const server = createServer({ cert, key }, (socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
  server.on('tlsClientError', () => {}).on('connection', onConnection);
  context.onTestFinished(() => void server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  return `127.0.0.1:${typeof address === 'object' ? address!.port : 0}`;
}

describe("a broker's certificate", () => {
  it.for<[string, CertificateOptions, RegExp]>([
    ['has expired', { days: [-20, -10] }, /has expired .*Renew it/],
    ['is not valid yet', { days: [10, 20] }, /is not valid yet .*clock/],
    ['is made out to another host', { hosts: ['other.example'] }, /made out to another host/],
    ['signs itself', {}, /is not trusted .*ssl\.ca/],
  ])('is refused when it %s', async ([what, options, message], context) => {
    const issuer = what === 'signs itself' ? {} : { issuer: authority };
    const connected = vi.fn();
    const broker = await listening(context, certificate('broker', { hosts, ...issuer, ...options }), connected);
    const transport = kafkaTransport({ brokers: [broker], ssl: { ca: authority.cert } });
    context.onTestFinished(() => transport.close());
    const failed = await transport.endOffsets('any').catch((error: unknown) => error);
    expect(failed).toMatchObject({ key: 'transportFailed', message: expect.stringMatching(message) });
    // Trying again and again would not help.
    expect(connected.mock.calls.length).toBeLessThanOrEqual(3);
  });
});

describe('ssl', () => {
  const client = certificate('client', { issuer: authority });
  const other = certificate('other');

  it.each<[string, KafkaTls, string | RegExp]>([
    ['a certificate of something else', { ca: 'no certificate' }, 'ssl.ca: expected certificates as PEM, got none'],
    [
      'a certificate with an error',
      { ca: authority.cert.replace(/\n.{10}/, '\nAAAAAAAAAA') },
      /ssl\.ca: expected certificates as PEM/,
    ],
    ['a certificate without its key', { cert: client.cert }, '`cert` and `key` together'],
    ['a key without its certificate', { key: client.key }, '`cert` and `key` together'],
    [
      'both kinds of identity',
      { cert: client.cert, key: client.key, pfx: new Uint8Array(1) },
      'either `cert` and `key`, or `pfx`',
    ],
    ['a passphrase for nothing', { passphrase: 'x' }, '`passphrase` with `key` or `pfx`'],
    ["another certificate's key", { cert: client.cert, key: other.key }, /got key values mismatch/],
    ['a key that is none', { cert: client.cert, key: 'no key' }, /expected a certificate and its key, as PEM/],
    ['a file that is none', { pfx: new Uint8Array(20), passphrase: 'x' }, /expected a PKCS #12 file/],
    ['an unknown option', { rejectUnauthorized: false } as KafkaTls, 'ssl.rejectUnauthorized: expected no such option'],
  ])('refuses %s before a connection is made', (_, ssl, message) => {
    const made = () => kafkaTransport({ brokers: ['127.0.0.1:1'], ssl });
    expect(made).toThrow(message);
    expect(made).toThrow(expect.objectContaining({ key: 'invalidOption' }));
  });

  it('takes several authorities, in one text or in an array, as text or bytes', () => {
    for (const ca of [authority.cert + other.cert, [authority.cert, other.cert], Buffer.from(authority.cert)]) {
      expect(() => kafkaTransport({ brokers: ['127.0.0.1:1'], ssl: { ca } })).not.toThrow();
    }
  });
});
