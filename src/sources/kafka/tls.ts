import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import * as v from 'valibot';
import { RxgradError } from '../../errors.ts';

/** Whom to trust, and who one is. A broker's certificate is always checked: an own authority is named, not ignored. */
export interface KafkaTls {
  /** Certificates of the authorities to trust, as PEM; in the place of those that Node.js trusts. */
  readonly ca?: string | Uint8Array | readonly (string | Uint8Array)[];
  /** This client's certificate and those between it and its authority, as PEM; with `key`. */
  readonly cert?: string | Uint8Array;
  /** Its private key, as PEM. */
  readonly key?: string | Uint8Array;
  /** Certificate and key in one file of PKCS #12, in the place of `cert` and `key`. */
  readonly pfx?: Uint8Array;
  /** Opens `key` or `pfx`. */
  readonly passphrase?: string;
  /** The name that brokers' certificates are made out to, where that is not the host they are reached at. */
  readonly servername?: string;
}

/** What a connection needs. The secrets stay inside of the context. */
export interface Tls {
  readonly secureContext: SecureContext;
  readonly servername?: string;
}

const pem = v.union([v.string(), v.instance(Uint8Array)], 'PEM as text or bytes');

export const tlsSchema = v.pipe(
  v.strictObject({
    ca: v.optional(v.union([v.string(), v.instance(Uint8Array), v.array(pem)], 'PEM, or an array of that')),
    cert: v.optional(pem),
    key: v.optional(pem),
    pfx: v.optional(v.instance(Uint8Array, 'the bytes of a PKCS #12 file')),
    passphrase: v.optional(v.string()),
    servername: v.optional(v.pipe(v.string(), v.nonEmpty('a host name'))),
  }),
  v.check(({ cert, key }) => (cert === undefined) === (key === undefined), '`cert` and `key` together'),
  v.check(({ cert, pfx }) => cert === undefined || pfx === undefined, 'either `cert` and `key`, or `pfx`'),
  v.check(
    ({ key, pfx, passphrase }) => passphrase === undefined || (key ?? pfx) !== undefined,
    '`passphrase` with `key` or `pfx`',
  ),
);

type ParsedTls = v.InferOutput<typeof tlsSchema>;

const certificates = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** Reads certificates and keys once, so that what is wrong with them shows before a connection is tried. */
export function secureContextOf({ ca, cert, key, pfx, passphrase, servername }: ParsedTls, option: string): Tls {
  const authorities = ca === undefined ? [] : [ca].flat().map((text) => Buffer.from(text as Uint8Array).toString('latin1'));
  for (const authority of authorities) requireCertificates(authority, `${option}.ca`);
  try {
    const secureContext = createSecureContext({
      ...(ca === undefined ? {} : { ca: authorities }),
      ...(cert === undefined || key === undefined ? {} : { cert: Buffer.from(cert), key: Buffer.from(key) }),
      ...(pfx === undefined ? {} : { pfx: Buffer.from(pfx) }),
      ...(passphrase === undefined ? {} : { passphrase }),
    });
    return { secureContext, ...(servername === undefined ? {} : { servername }) };
  } catch (error) {
    const what = pfx === undefined ? 'a certificate and its key, as PEM' : 'a PKCS #12 file';
    throw new RxgradError('invalidOption', {
      option,
      expected: `${what}, which the passphrase (if any) opens`,
      got: problemOf(error),
    });
  }
}

/** Node.js passes over what is no certificate in silence, and then trusts nobody. */
function requireCertificates(text: string, option: string): void {
  const expected = 'certificates as PEM';
  const found = text.match(certificates);
  if (!found) throw new RxgradError('invalidOption', { option, expected, got: 'none' });
  for (const certificate of found) {
    try {
      new X509Certificate(certificate);
    } catch (error) {
      throw new RxgradError('invalidOption', { option, expected, got: problemOf(error) });
    }
  }
}

/** OpenSSL's own words, such as "bad decrypt": they hold nothing of what was read. */
function problemOf(error: unknown): string {
  return (error as Error).message.split(':').at(-1)!.trim();
}
