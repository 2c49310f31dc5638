import { gunzip, inflate } from 'node:zlib';
import type { FastifyInstance } from 'fastify';
import { RxgradError } from '../../errors.ts';
import { shownText } from '../shown-text.ts';

const decompressions = { gzip: gunzip, deflate: inflate } as const;
const none = Buffer.alloc(0);

/** Hands bodies on as the bytes that they are, decompressed up to the same limit; routes read them. */
export function readBodies(app: FastifyInstance, maxBytes: number): void {
  app.removeAllContentTypeParsers();
  app.addHook('onRequest', (request, _reply, done) => {
    // Clients of Triton name no type.
    if (request.method === 'POST' && request.headers['content-type'] === undefined) {
      request.headers['content-type'] = 'application/octet-stream';
    }
    done();
  });
  app.addContentTypeParser(
    ['application/json', 'application/octet-stream'],
    { parseAs: 'buffer', bodyLimit: maxBytes },
    (request, body, done) => {
      const encoding = request.headers['content-encoding'];
      if (encoding === undefined || encoding === 'identity') done(null, body);
      else decompress(encoding, body as Buffer, maxBytes, done);
    },
  );
}

/** What a request without a body has as its body. */
export function bodyOf(body: unknown): Buffer {
  return Buffer.isBuffer(body) ? body : none;
}

function decompress(encoding: string, body: Buffer, maxBytes: number, done: (error: Error | null, body?: Buffer) => void): void {
  if (!Object.hasOwn(decompressions, encoding)) {
    const got = shownText(encoding);
    done(new RxgradError('unsupportedContent', { where: 'Content-Encoding', expected: 'gzip or deflate', got }));
    return;
  }
  decompressions[encoding as keyof typeof decompressions](body, { maxOutputLength: maxBytes }, (error, bytes) => {
    if (!error) done(null, bytes);
    else if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      done(new RxgradError('requestTooLarge', { where: 'body', expected: `${maxBytes} bytes`, got: `more, behind ${encoding}` }));
    } else done(new RxgradError('invalidRequest', { where: 'body', expected: encoding, got: 'other bytes' }));
  });
}
