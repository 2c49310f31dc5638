import type { HeaderValue } from './transport.ts';

type Headers = Readonly<Record<string, HeaderValue>>;

const none: Headers = Object.freeze({});

/**
 * Writes headers as one JSON text: an object where all values are strings, which parses in one go; else an array of that
 * object and of one with the base64 text of the binary values.
 */
export function headerText(headers: Headers | undefined): string | null {
  const strings: Record<string, string> = {};
  const binaries: Record<string, string> = {};
  let count = 0;
  let binaryCount = 0;
  for (const name in headers) {
    const value = headers[name]!;
    count++;
    if (typeof value === 'string') {
      strings[name] = value;
    } else {
      binaries[name] = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
      binaryCount++;
    }
  }
  if (count === 0) return null;
  return JSON.stringify(binaryCount === 0 ? strings : [strings, binaries]);
}

/** Makes a function that reads {@link headerText} back, and parses a text that repeats only once. */
export function headerReader(): (text: string | null) => Headers {
  let lastText: string | null = null;
  let lastHeaders = none;
  return (text) => {
    if (text === lastText) return lastHeaders;
    lastText = text;
    lastHeaders = text === null ? none : parsed(text);
    return lastHeaders;
  };
}

function parsed(text: string): Headers {
  if (text.startsWith('{')) return JSON.parse(text);
  const [strings, binaries]: [Record<string, string>, Record<string, string>] = JSON.parse(text);
  const headers: Record<string, HeaderValue> = strings;
  for (const name in binaries) headers[name] = Buffer.from(binaries[name]!, 'base64');
  return headers;
}
