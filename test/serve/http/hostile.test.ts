import { once } from 'node:events';
import { expect, it } from 'vitest';
import { eventually } from '../../eventually.ts';
import { exchange, open, readAll } from './raw-socket.ts';
import { floats, inputsOf, type Running, start } from './running.ts';

const headers = { 'content-type': 'application/json' };

function send({ ask }: Running, body: string): ReturnType<Running['ask']> {
  return ask('/v2/models/m/infer', { method: 'POST', body, headers });
}

async function expectAlive({ ask }: Running): Promise<void> {
  expect((await ask('/v2/models/m/infer', { json: floats })).json.outputs[1].data).toEqual([32]);
}

it('answers JSON of any depth', async (t) => {
  const server = await start(t);
  const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
  const deepObject = `${'{"a":'.repeat(200_000)}1${'}'.repeat(200_000)}`;
  const at = (place: Record<string, unknown>) => JSON.stringify(inputsOf({ datatype: 'FP32', data: [1, 2], ...place }));
  for (const body of [
    deep,
    deepObject,
    at({ data: 'here' }).replace('"here"', deep),
    at({ shape: 'here' }).replace('"here"', deep),
    at({ name: 'here' }).replace('"here"', deepObject),
    at({ parameters: 'here' }).replace('"here"', deepObject),
    `{"inputs":[],"parameters":${deepObject}}`,
    `{"inputs":${deep},"id":"1"}`,
    '['.repeat(1_000_000),
  ]) {
    expect((await send(server, body)).status).toBe(400);
  }
  await expectAlive(server);
});

it('takes names of prototypes as names', async (t) => {
  const server = await start(t);
  const inner = JSON.stringify(floats).slice(1, -1);
  for (const body of [
    `{"__proto__":{"polluted":true},${inner}}`,
    `{"constructor":{"prototype":{"polluted":true}},${inner}}`,
    `{"parameters":{"__proto__":1,"constructor":2},${inner}}`,
  ]) {
    expect((await send(server, body)).status).toBe(200);
  }
  const named = inputsOf({ datatype: 'FP32', data: [1, 2], name: '__proto__' });
  expect((await server.ask('/v2/models/m/infer', { json: named })).status).toBe(400);
  expect((await send(server, '{"__proto__":{"inputs":[]}}')).json.error).toBe('inputs: expected an array, got none');
  expect(({} as { polluted?: true }).polluted).toBeUndefined();
});

it('keeps its memory through bodies over the limit, tiny tensors, and objects without end', async (t) => {
  const server = await start(t);
  const tiny = `{"inputs":[${'{"name":"x","datatype":"FP32","shape":[1],"data":[1]},'.repeat(300_000)}{}]}`;
  const tinier = `{"inputs":[${'{},'.repeat(20_000_000)}{}]}`;
  const large = Buffer.alloc(65 * 1024 * 1024, 0x20);
  const round = async () => {
    expect((await send(server, tiny)).json.error).toBe('inputs: expected at most 256 tensors, got 300001');
    expect((await send(server, tinier)).json.error).toBe('body: expected at most 1048576 arrays and objects, got 20000003');
    const over = await server.ask('/v2/models/m/infer', { method: 'POST', body: large, headers }).catch(() => null);
    // A client that goes on sending may find the connection closed before it reads the answer.
    if (over) expect(over.status).toBe(413);
    await expectAlive(server);
  };
  await round();
  await round();
  const before = process.memoryUsage.rss();
  for (let i = 0; i < 4; i++) await round();
  expect(process.memoryUsage.rss() - before).toBeLessThan(300 * 1024 * 1024);
});

it('answers paths of any bytes', async (t) => {
  const server = await start(t);
  const answers: Record<string, number> = {
    '/v2/models/%00%1b%5b31m': 404,
    '/v2/models/%zz': 400,
    '/v2/models/%ff/infer': 400,
    '/v2/models/..%2f..%2fetc%2fpasswd': 404,
    '/v2/models/../../etc/passwd': 404,
    '//v2//models//m': 404,
    [`/v2/models/${'a'.repeat(8000)}`]: 414,
    '/v2/models/m/versions/%0d%0aSet-Cookie:%20a=b': 404,
    '/v2/models/m/versions/99999999999999999999': 404,
  };
  for (const [path, status] of Object.entries(answers)) {
    const text = await exchange(t, server.port, `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    expect([path, text.slice(9, 12)]).toEqual([path, String(status)]);
    const [head, body] = text.split('\r\n\r\n');
    expect(head).not.toContain('Set-Cookie');
    expect(body).toMatch(/^\{"error":"[\x20-\x7e…]*"\}$/);
  }
  for (const bytes of [
    'GET /v2\x00 HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET /v2/\x1b HTTP/1.1\r\nHost: a\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01',
    'HELO\r\n\r\n',
  ]) {
    expect(await exchange(t, server.port, bytes)).toMatch(/^HTTP\/1.1 400 Bad Request\r\n[\s\S]*\r\n\r\n\{"error":/);
  }
  const many = `GET /v2 HTTP/1.1\r\nHost: a\r\n${`X-A: ${'a'.repeat(1000)}\r\n`.repeat(40)}\r\n`;
  expect(await exchange(t, server.port, many)).toMatch(/^HTTP\/1.1 431 /);
  await expectAlive(server);
});

it('refuses requests that could be read in two ways', async (t) => {
  const { port } = await start(t);
  const post = 'POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n';
  for (const more of [
    'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ',
    'Transfer-Encoding: chunked\r\n\r\nzz\r\n',
  ]) {
    expect(await exchange(t, port, post + more)).toMatch(/^HTTP\/1.1 400 /);
  }
});

it('hangs up on slow clients, and serves others meanwhile', async (t) => {
  const server = await start(t, { timeouts: { headersMs: 300, requestMs: 600, keepAliveMs: 300 } });
  const slowHeaders = await open(t, server.port);
  const slowBody = await open(t, server.port);
  const head = 'POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\n';
  slowBody.write(`${head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n`);
  slowHeaders.write(head);
  for (const [socket, text] of [
    [slowHeaders, 'X-A: b\r\n'],
    [slowBody, ' '],
  ] as const) {
    const trickle = setInterval(() => socket.write(text), 50);
    t.onTestFinished(() => clearInterval(trickle));
    // To go on behind the answer may end the connection before the answer is read.
    socket.once('data', () => clearInterval(trickle));
  }
  const ends = Promise.all([readAll(slowHeaders), readAll(slowBody)]);
  await expectAlive(server);
  for (const text of await ends) expect(text).toMatch(/^HTTP\/1.1 408 Request Timeout/);
  await expectAlive(server);
});

it('serves beside 1,000 connections without a request, and refuses those over its limit', async (t) => {
  const server = await start(t, { limits: { connections: 1010 } });
  const idle = await Promise.all(Array.from({ length: 1000 }, () => open(t, server.port)));
  await expectAlive(server);
  const more = await Promise.all(Array.from({ length: 20 }, () => open(t, server.port)));
  await eventually(() =>
    expect(more.filter(({ destroyed, readableEnded }) => destroyed || readableEnded).length).toBeGreaterThan(5),
  );
  expect(server.lines.filter(({ msg }) => msg === 'connections above the limit were refused')).toHaveLength(1);
  for (const socket of [...idle, ...more]) socket.destroy();
  await eventually(() => expectAlive(server));
});

it('gives up predictions whose client is gone', async (t) => {
  const server = await start(t);
  const { promise, resolve } = Promise.withResolvers<AbortSignal>();
  const { predict } = server.model;
  server.model.predict = (_feeds, { signal } = {}) =>
    new Promise((_, reject) => {
      resolve(signal!);
      signal!.addEventListener('abort', () => reject(new Error('given up')));
    });
  const socket = await open(t, server.port);
  const body = JSON.stringify(floats);
  const head = `POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`;
  socket.write(`${head}\r\n\r\n${body}`);
  const signal = await promise;
  expect(signal.aborted).toBe(false);
  socket.destroy();
  if (!signal.aborted) await once(signal, 'abort');
  server.model.predict = predict;
  await expectAlive(server);
});
