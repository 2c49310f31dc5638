import { request } from 'node:http';
import type { Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { describe, expect, it, type TestContext } from 'vitest';
import { eventually } from '../../eventually.ts';
import { open } from './raw-socket.ts';
import { floats, type Running, start } from './running.ts';

const mib = 2 ** 20;
const limits = { bodyBytes: 8 * mib, bytesInFlight: 32 * mib };
const json = { 'content-type': 'application/json' };

/** Bytes of buffers, after a collection. */
function buffers(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().arrayBuffers;
}

const headOf = (bytes: number, more = ''): string =>
  `POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: ${bytes}\r\n${more}\r\n`;

/** Sends so much of a body, and then nothing more. */
async function begin(t: TestContext, { port }: Running, bytes: Buffer): Promise<Socket> {
  const socket = await open(t, port);
  socket.write(headOf(limits.bodyBytes));
  socket.write(bytes);
  return socket;
}

/** What came up to the end of a connection, however it ended. */
function ended(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  return new Promise((resolve) => {
    socket.once('close', () => resolve(text));
  });
}

describe('bytes in flight', () => {
  it('of 80 slow senders stay within their bound, and others are answered', async (t) => {
    const server = await start(t, { limits });
    const part = Buffer.alloc(8 * mib - 1, 0x20);
    const before = buffers();
    const sockets = await Promise.all(Array.from({ length: 80 }, () => begin(t, server, part)));
    const answers = Promise.all(sockets.map(ended));
    // Room for a body is eight: four are held at most, and the others refused.
    const held = () => server.status.requests;
    await eventually(() => expect(held().bytes).toBe((80 - held().refused) * 8 * mib));
    expect(held().refused).toBeGreaterThanOrEqual(76);
    expect(buffers() - before).toBeLessThan(48 * mib);
    // Where there is no room, one of the slow senders has to go for it.
    expect((await server.ask('/v2/models/m/infer', { json: floats })).json.outputs[1].data).toEqual([32]);
    for (const socket of sockets) socket.destroy();
    await answers;
    await eventually(() => expect(server.status.requests.bytes).toBe(0));
    expect(server.lines.filter(({ msg }) => String(msg).startsWith('requests above the limit')).length).toBeGreaterThan(0);
  });

  it('are refused with 503, and the connection ends', async (t) => {
    const server = await start(t, { limits: { bodyBytes: 8 * mib, bytesInFlight: 16 * mib } });
    const sockets = await Promise.all([1, 2, 3].map(() => begin(t, server, Buffer.alloc(8 * mib - 1))));
    const answer = await Promise.race(sockets.map(ended));
    expect(answer).toMatch(/^HTTP\/1.1 503 /);
    expect(answer.toLowerCase()).toContain('retry-after: 1\r\n');
    expect(answer).toContain('Expected room for this request among the 16777216 bytes');
    for (const socket of sockets) socket.destroy();
  });

  it.for<[string, (t: TestContext, server: Running) => Promise<unknown>]>([
    ['is answered', async (_, server) => server.ask('/v2/models/m/infer', { json: floats })],
    ['fails', async (_, server) => server.ask('/v2/models/m/infer', { json: { inputs: 7 } })],
    [
      'is too large',
      async (_, server) => server.ask('/v2/models/m/infer', { method: 'POST', body: Buffer.alloc(9 * mib) }).catch(() => {}),
    ],
    [
      'is no gzip',
      async (_, server) => server.ask('/v2/models/m/infer', { json: floats, headers: { 'content-encoding': 'gzip' } }),
    ],
    ['does not come in time', async (t, server) => ended(await begin(t, server, Buffer.alloc(mib)))],
    [
      'is given up',
      async (t, server) => {
        const socket = await begin(t, server, Buffer.alloc(mib));
        await eventually(() => expect(server.status.requests.bytes).toBeGreaterThan(mib - 1));
        socket.destroy();
      },
    ],
  ])('of a request that %s are let go of', async ([, send], t) => {
    const server = await start(t, { limits, timeouts: { requestMs: 500, headersMs: 500 } });
    await send(t, server);
    await eventually(() => expect(server.status.requests).toEqual({ bytes: 0, limit: 32 * mib, refused: 0 }));
  });

  it('count what was compressed', async (t) => {
    const server = await start(t, { limits: { bodyBytes: 8 * mib, bytesInFlight: 16 * mib } });
    const { predict } = server.model;
    const released = Promise.withResolvers<void>();
    server.model.predict = async (feeds) => {
      await released.promise;
      return predict(feeds);
    };
    const text = JSON.stringify(floats);
    const body = gzipSync(text + ' '.repeat(2 * mib));
    const headers = { ...json, 'content-encoding': 'gzip' };
    const bomb = () => server.ask('/v2/models/m/infer', { method: 'POST', body, headers });
    const statuses = [bomb(), bomb(), bomb()].map(async (answer) => (await answer).status);
    // What was read of JSON takes the place of the text, so that none of them is refused.
    await eventually(() => expect(server.status.requests.bytes).toBe(3 * 16));
    released.resolve();
    expect(await Promise.all(statuses)).toEqual([200, 200, 200]);
    // Two of which one byte is missing take all there is.
    const cut = gzipSync(Buffer.alloc(8 * mib, 0x20)).subarray(0, -1);
    const halves = await Promise.all(Array.from({ length: 2 }, () => open(t, server.port)));
    for (const socket of halves) socket.write(headOf(cut.length + 1, 'Content-Encoding: gzip\r\n'));
    for (const socket of halves) socket.write(cut);
    await eventually(() => expect(server.status.requests.refused).toBe(1));
    expect(server.status.requests.bytes).toBeLessThan(9 * mib);
  });

  it('are within a limit that one body fits into twice', async (t) => {
    await expect(start(t, { limits: { bodyBytes: mib, bytesInFlight: mib } })).rejects.toThrow(
      'serve: limits.bytesInFlight: expected at least twice limits.bodyBytes (1048576), got 1048576',
    );
  });
});

describe('guesses of the admin token', () => {
  const token = 'correct-horse-battery';

  /** Asks from an address of this machine. */
  function asked({ port }: Running, bearer: string, localAddress = '127.0.0.1') {
    return new Promise<{ status: number; after: string | undefined; text: string }>((resolve, reject) => {
      const headers = { authorization: `Bearer ${bearer}` };
      request({ host: '127.0.0.1', port, path: '/admin/status', localAddress, headers, agent: false }, (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode!, after: response.headers['retry-after'], text }));
      })
        .on('error', reject)
        .end();
    });
  }

  it('of 200 from one address ten are looked at, and who has it is let in from another', async (t) => {
    const server = await start(t, { token });
    const statuses: Record<number, number> = {};
    for (let i = 0; i < 200; i += 50) {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, j) => asked(server, `wrong-${i + j}`)));
      for (const { status } of answers) statuses[status] = (statuses[status] ?? 0) + 1;
    }
    expect(statuses).toEqual({ 401: 10, 429: 190 });
    const right = await asked(server, token);
    expect(right.status).toBe(429);
    expect(Number(right.after)).toBeGreaterThan(30);
    expect(right.text).toMatch(/Too many wrong tokens came from this address/);
    const other = await asked(server, token, '127.0.0.2');
    expect(other.status).toBe(200);
    expect(JSON.parse(other.text)).toMatchObject({ requests: { refused: 0 }, guesses: { wrong: 10, refused: 191 } });
    expect(server.lines.filter(({ msg }) => String(msg).includes('too many wrong tokens')).length).toBeGreaterThan(0);
    expect(JSON.stringify(server.lines)).not.toMatch(/wrong-\d|correct-horse/);
  });
});
