import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { RxgradError } from '../errors.ts';

/** A certificate and its key, as PEM or as paths of files that hold it. */
export interface ServeTls {
  readonly cert: string;
  readonly key: string;
  /** Authorities of clients: with it, only clients with a certificate of theirs are let in. */
  readonly ca?: string | undefined;
}

/** A certificate and its key as PEM. */
export interface Pem {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
}

/** Reads what is named by a path, and checks that it belongs together. */
export function readTls({ cert, key, ca }: ServeTls): Pem {
  const pem = {
    cert: pemOf(cert, 'cert'),
    key: pemOf(key, 'key'),
    ca: ca === undefined ? undefined : pemOf(ca, 'ca'),
  };
  try {
    createSecureContext(pem);
  } catch (cause) {
    const got = `what OpenSSL refuses (${(cause as NodeJS.ErrnoException).code})`;
    throw new RxgradError('invalidOption', { option: 'serve: tls', expected: 'a certificate and its own key', got });
  }
  return pem;
}

/** What is no PEM is the path of some. */
function pemOf(text: string, option: string): string {
  if (text.includes('-----BEGIN ')) return text;
  let pem: string;
  try {
    pem = readFileSync(text, 'utf8');
  } catch (cause) {
    const got = `a file that cannot be read (${(cause as NodeJS.ErrnoException).code})`;
    throw new RxgradError('invalidOption', { option: `serve: tls.${option}`, expected: 'PEM, or the path of some', got });
  }
  if (pem.includes('-----BEGIN ')) return pem;
  throw new RxgradError('invalidOption', {
    option: `serve: tls.${option}`,
    expected: 'PEM, or the path of some',
    got: 'a file of something else',
  });
}
