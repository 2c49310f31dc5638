import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import type { ServiceError } from '@grpc/grpc-js';
import { embeddedLog } from 'rxgrad';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { serveOptions } from '../../src/cli/serve/options.ts';
import { ModelInferRequestSchema, type ModelInferResponse } from '../../src/serve/grpc/inference_pb.ts';
import { certificate } from '../broker/certificates.ts';
import { everythingModel, linearModel } from '../serve/everything-model.ts';
import { grpcClient } from '../serve/grpc/grpc-client.ts';
import { publishedTraining } from '../serve/published-training.ts';
import { predict, ServeProcess } from '../serve/serve-process.ts';

let folder: string;
let linear: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'rxgrad-serve-'));
  linear = file('linear.onnx', linearModel());
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const request = create(ModelInferRequestSchema, {
  modelName: 'linear',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1n, 4n], contents: { fp32Contents: [1, 1, 1, 1] } }],
});

async function failure(context: TestContext, args: readonly string[], environment: Record<string, string> = {}) {
  const server = new ServeProcess(context, args, environment);
  expect(await server.ended()).toBe(1);
  const lines = server.stderr.trim().split('\n');
  expect(lines, server.stderr).toHaveLength(1);
  return lines[0]!;
}

it('has each of its options on the page', () => {
  const page = readFileSync(new URL('../../docs/serving.md', import.meta.url), 'utf8');
  const missing = serveOptions.map(({ flags }) => flags.split(' ')[0]!).filter((flag) => !page.includes(`\`${flag}\``));
  expect(missing).toEqual([]);
});

describe('rxgrad serve', () => {
  it('serves a model over HTTP and gRPC, and ends with SIGTERM', async (context) => {
    const server = new ServeProcess(context, [linear]);
    const url = await server.http();
    await server.said('ready', { model: 'linear', version: 0 });
    expect(await predict(url)).toMatchObject({ status: 200, model_version: '0', outputs: [{ data: [4, 4] }] });
    const { call } = grpcClient(context, await server.grpcPort());
    const { message } = await call<ModelInferResponse>('modelInfer', request);
    expect(message.modelVersion).toBe('0');
    expect((await fetch(`${url}/admin/models/linear/versions`)).status).toBe(403);
    expect(await server.said('serving')).toMatchObject({
      admin: false,
      models: [{ name: 'linear', file: linear, version: 0, providers: ['cpu'] }],
    });
    server.signal('SIGTERM');
    expect(await server.ended()).toBe(0);
    expect(server.stderr).toBe('');
    expect(server.lines.at(-1)).toMatchObject({ msg: 'ended' });
  });

  it('answers every request that it has taken when it is ended under load', async (context) => {
    const server = new ServeProcess(context, [linear]);
    const [url, port] = [await server.http(), await server.grpcPort()];
    await server.said('ready');
    let isEnding = false;
    let answered = 0;
    const early: unknown[] = [];
    const loop = async (ask: () => Promise<unknown>) => {
      for (;;) {
        const wasEnding = isEnding;
        try {
          await ask();
          answered += 1;
        } catch (error) {
          // From the signal on, connections may be closed: but not in the middle of an answer.
          if (!wasEnding && !isEnding) early.push(error);
          if (isEnding) return error;
        }
      }
    };
    const { call } = grpcClient(context, port);
    const http = async () => {
      const { status, outputs } = await predict(url);
      if (status === 503) throw new Error('503');
      expect(outputs).toEqual([expect.objectContaining({ data: [4, 4] })]);
    };
    const loops = [
      ...Array.from({ length: 4 }, () => loop(http)),
      ...Array.from({ length: 4 }, () => loop(() => call('modelInfer', request))),
    ];
    await expect.poll(() => answered).toBeGreaterThan(200);
    isEnding = true;
    server.signal('SIGTERM');
    const ends = await Promise.all(loops);
    expect(await server.ended()).toBe(0);
    expect(early).toEqual([]);
    const codes = ends.slice(4).map((error) => (error as ServiceError).code);
    expect(codes).toEqual([14, 14, 14, 14]);
  });

  it('ends at once with the second signal', async (context) => {
    const server = new ServeProcess(context, [linear, '--drain-ms', '60000']);
    const url = new URL(await server.http());
    await server.said('ready');
    // A request that is never there as a whole keeps the first signal waiting.
    const half = connect(Number(url.port), url.hostname);
    half.on('error', () => {});
    half.write(
      'POST /v2/models/linear/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n{',
    );
    await once(half, 'data');
    server.signal('SIGTERM');
    await server.said('ending');
    server.signal('SIGINT');
    expect(await server.ended()).toBe('SIGINT');
    half.destroy();
  });

  it('serves several models, under names and with a token and TLS', async (context) => {
    const authority = certificate('authority');
    const own = certificate('server', { issuer: authority, hosts: ['localhost', '127.0.0.1'] });
    const token = 'a-token-of-the-test-alone';
    const args = [linear, file('everything.onnx', everythingModel())];
    const secured = ['--tls-cert', file('cert.pem', own.cert), '--tls-key', file('key.pem', own.key)];
    const tokenFile = file('token', `${token}\n`);
    const server = new ServeProcess(context, [...args, ...secured, '--admin-token-file', tokenFile]);
    expect(await server.http()).toMatch(/^https:/);
    expect(await server.said('serving')).toMatchObject({ admin: true, models: [{ name: 'linear' }, { name: 'everything' }] });
    await server.said('ready', { model: 'everything' });
    expect(JSON.stringify(server.lines)).not.toContain(token);
  });

  it('goes back to a version that it has kept, for who has the token', async (context) => {
    const path = join(folder, 'kept.db');
    const log = embeddedLog(path);
    await log.createTopic('weights', { compacted: true });
    const token = 'a-token-of-the-test-alone';
    const args = [
      linear,
      '--weights-from',
      'weights',
      '--log',
      path,
      '--keep-every-ms',
      '1',
      '--workers',
      '1',
      '--max-batch',
      '8',
    ];
    const server = new ServeProcess(context, args, { RXGRAD_ADMIN_TOKEN: token });
    const url = await server.http();
    const training = await publishedTraining(log, 'linear', linear);
    training.step();
    await server.said('ready', { version: 1 });
    training.step();
    await expect.poll(async () => (await predict(url)).model_version).toBe('2');
    const rollback = {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: '{"version":1}',
    };
    await expect.poll(async () => (await fetch(`${url}/admin/models/linear/rollback`, rollback)).status).toBe(200);
    expect(await predict(url)).toMatchObject({ model_version: '1', outputs: [{ data: [8, 8] }] });
    training.step();
    await training.end();
    expect(await predict(url)).toMatchObject({ model_version: '1' });
    const unpinned = await fetch(`${url}/admin/models/linear/unpin`, { method: 'POST', headers: rollback.headers, body: '{}' });
    expect(unpinned.status).toBe(200);
    await expect.poll(async () => (await predict(url)).model_version).toBe('3');
    await log.close();
  });

  it('warms up with recorded requests', async (context) => {
    const inputs = [{ name: 'x', datatype: 'FP32', shape: [1, 4], data: [1, 2, 3, 4] }];
    const lines = file('requests.jsonl', `${JSON.stringify({ inputs })}\n\n${JSON.stringify({ inputs, id: 'b' })}\n`);
    const server = new ServeProcess(context, [linear, '--warm-up', lines, '--no-grpc']);
    await server.said('ready');
    expect(await server.said('serving')).toMatchObject({ grpc: null });
    const wrong = file('wrong.jsonl', `${JSON.stringify({ inputs })}\n{"inputs":[{"name":"z"}]}\n`);
    expect(await failure(context, [linear, '--warm-up', wrong])).toMatch(/line 2 of .*wrong\.jsonl: expected a request, got/);
  });

  it('says in a line that a port is taken', async (context) => {
    const other = createServer().listen(0, '127.0.0.1');
    context.onTestFinished(() => void other.close());
    await new Promise((resolve) => other.once('listening', resolve));
    const { port } = other.address() as AddressInfo;
    const message = new RegExp(`Cannot listen on 127\\.0\\.0\\.1:${port}: another process has it.*RXGRAD_CANNOT_LISTEN`);
    expect(await failure(context, [linear, '--port', String(port)])).toMatch(message);
    expect(await failure(context, [linear, '--grpc-port', String(port)])).toMatch(message);
  });

  it.for([
    ['what is no model', () => [file('text.onnx', 'no model at all')], /text\.onnx: expected an ONNX model/],
    ['a model that is cut off', () => [file('cut.onnx', linearModel().subarray(0, 60))], /cut\.onnx: /],
    ['a file that is not there', () => [join(folder, 'nothing.onnx')], /nothing\.onnx: .*no such file/],
    ['a name with control characters', () => [linear, '--name', 'a\nb'], /--name: expected 1 to 128 characters.*"a\\nb"/],
    ['one name for two models', () => [linear, linear, '--name', 'a'], /--name: expected one model with it/],
    ['two models of one name', () => [linear, linear], /expected a name for each, got "linear" twice/],
    ['a certificate without its key', () => [linear, '--tls-cert', linear], /--tls-cert: expected --tls-key with it/],
    ['weights from no log', () => [linear, '--weights-from', 'w'], /--brokers: expected it, --kafka-config or --log/],
    ['a port that is none', () => [linear, '--port', '70000'], /serve: port: expected/],
  ] as const)('refuses %s', async ([, args, message], context) => {
    expect(await failure(context, args())).toMatch(message);
  });

  it('takes the next execution provider where one is not there, and says so in its log', async (context) => {
    const server = new ServeProcess(context, [linear, '--providers', 'coreml,cpu']);
    expect(await server.said('serving')).toMatchObject({ models: [{ providers: ['cpu'] }] });
    await server.said('ready');
    expect(server.lines).toContainEqual(expect.objectContaining({ level: 40, msg: expect.stringContaining('coreml') }));
    server.signal('SIGTERM');
    expect(await server.ended()).toBe(0);
    expect(server.stderr).toBe('');
  });

  it('refuses a token that can be guessed, without showing it', async (context) => {
    const line = await failure(context, [linear], { RXGRAD_ADMIN_TOKEN: 'hunter2' });
    expect(line).toMatch(/serve: token: expected a token of at least 16 characters/);
    expect(line).not.toContain('hunter2');
  });

  it('follows weights of an embedded log: ready with the first, and goes on with the next', async (context) => {
    const path = join(folder, 'weights.db');
    const log = embeddedLog(path);
    await log.createTopic('weights', { compacted: true });
    const server = new ServeProcess(context, [linear, '--weights-from', 'weights', '--log', path]);
    const url = await server.http();
    expect((await fetch(`${url}/v2/health/ready`)).status).toBe(503);
    expect(await predict(url)).toMatchObject({ status: 503, error: expect.stringContaining('linear') });

    const training = await publishedTraining(log, 'linear', linear);
    training.step();
    await server.said('ready', { version: 1 });
    expect(await predict(url)).toMatchObject({ status: 200, model_version: '1', outputs: [{ data: [8, 8] }] });
    training.step();
    await expect.poll(async () => (await predict(url)).model_version).toBe('2');
    expect(await predict(url)).toMatchObject({ outputs: [{ data: [12, 12] }] });
    await training.end();
    await log.close();
    server.signal('SIGINT');
    expect(await server.ended()).toBe(0);
  });
});
