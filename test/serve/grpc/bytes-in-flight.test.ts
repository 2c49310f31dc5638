import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { gzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { Metadata, status } from '@grpc/grpc-js';
import { describe, expect, it, type TestContext } from 'vitest';
import { BytesInFlight } from '../../../src/serve/bytes-in-flight.ts';
import { ModelInferRequestSchema, type ModelInferResponse } from '../../../src/serve/grpc/inference_pb.ts';
import { inferenceService } from '../../../src/serve/grpc/service-definition.ts';
import { eventually } from '../../eventually.ts';
import { grpcClient } from './grpc-client.ts';
import { serveGrpc } from './serve-grpc.ts';

const mib = 2 ** 20;
const path = '/inference.GRPCInferenceService/ModelInfer';
const ones = new Uint8Array(new Float32Array(8).fill(1).buffer);
const linear = (id = '') =>
  create(ModelInferRequestSchema, {
    id,
    modelName: 'linear',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [2n, 4n] }],
    rawInputContents: [ones],
  });

/** A call as bytes of HTTP/2. */
async function callOf(session: ClientHttp2Session, more: Record<string, string> = {}) {
  const stream: ClientHttp2Stream = session.request(
    { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...more },
    { endStream: false },
  );
  stream.on('error', () => {});
  const ended = new Promise<string | undefined>((resolve) => {
    let code: string | undefined;
    for (const event of ['response', 'trailers'] as const) {
      stream.on(event, (headers: Record<string, unknown>) => {
        code = (headers['grpc-status'] as string | undefined) ?? code;
      });
    }
    stream.on('close', () => resolve(code));
    stream.resume();
  });
  return { stream, ended };
}

function framed(message: Uint8Array, { isCompressed = false, length = message.length } = {}): Buffer {
  const head = Buffer.alloc(5);
  head[0] = Number(isCompressed);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

function sessionOf(t: TestContext, port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  t.onTestFinished(() => session.destroy());
  return session;
}

describe('bytes of gRPC calls in flight', () => {
  it('of slow senders stay within their bound, and others are answered', async (t) => {
    const inFlight = new BytesInFlight(16 * mib);
    const { port } = await serveGrpc(t, { inFlight, limits: { bodyBytes: 4 * mib } });
    const part = framed(Buffer.alloc(4 * mib - 1), { length: 4 * mib });
    const calls = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const call = await callOf(sessionOf(t, port));
        call.stream.write(part);
        return call;
      }),
    );
    let refused = 0;
    for (const { ended } of calls) {
      ended.then((code) => {
        if (code === String(status.UNAVAILABLE)) refused += 1;
      });
    }
    await eventually(() => {
      expect(inFlight.figures.bytes).toBeGreaterThan((20 - refused) * (4 * mib - 1));
      expect(refused).toBeGreaterThanOrEqual(17);
    });
    expect(inFlight.figures.bytes).toBeLessThanOrEqual(16 * mib);
    const { call } = grpcClient(t, port);
    expect((await call<ModelInferResponse>('modelInfer', linear('good'))).message.id).toBe('good');
    for (const { stream } of calls) stream.close();
    await eventually(() => expect(inFlight.figures.bytes).toBe(0));
  });

  it('of a sender that never ends are let go of in time', async (t) => {
    const inFlight = new BytesInFlight(16 * mib);
    const { port } = await serveGrpc(t, { inFlight, requestMs: 200 });
    const { stream, ended } = await callOf(sessionOf(t, port));
    stream.write(framed(Buffer.alloc(1000), { length: 2000 }));
    expect(await ended).toBe(String(status.DEADLINE_EXCEEDED));
    await eventually(() => expect(inFlight.figures.bytes).toBe(0));
  });

  it('count what was compressed', async (t) => {
    const inFlight = new BytesInFlight(8 * mib);
    const { port } = await serveGrpc(t, { inFlight, limits: { bodyBytes: 16 * mib } });
    const session = sessionOf(t, port);
    const bomb = await callOf(session, { 'grpc-encoding': 'gzip' });
    bomb.stream.end(framed(gzipSync(Buffer.alloc(12 * mib)), { isCompressed: true }));
    expect(await bomb.ended).toBe(String(status.UNAVAILABLE));
    const fine = await callOf(session, { 'grpc-encoding': 'gzip' });
    fine.stream.end(framed(gzipSync(toBinary(ModelInferRequestSchema, linear())), { isCompressed: true }));
    expect(await fine.ended).toBe(String(status.OK));
    const broken = await callOf(session, { 'grpc-encoding': 'gzip' });
    broken.stream.end(framed(Buffer.alloc(100), { isCompressed: true }));
    expect(await broken.ended).toBe(String(status.INVALID_ARGUMENT));
    await eventually(() => expect(inFlight.figures).toEqual({ bytes: 0, limit: 8 * mib, refused: 1 }));
  });

  it('of a stream are let go of with each answer', async (t) => {
    const inFlight = new BytesInFlight(2 * mib);
    const { port } = await serveGrpc(t, { inFlight });
    const { client } = grpcClient(t, port);
    const method = inferenceService.modelStreamInfer!;
    const stream = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize, new Metadata());
    const pad = 'x'.repeat(mib / 4);
    let answers = 0;
    for (let i = 0; i < 40; i++) {
      stream.write(linear(pad));
      await new Promise((resolve) => stream.once('data', resolve));
      answers += 1;
    }
    // A call has its own few bytes, also while it says nothing.
    await eventually(() => expect(inFlight.figures).toEqual({ bytes: 8192, limit: 2 * mib, refused: 0 }));
    stream.end();
    await eventually(() => expect(inFlight.figures.bytes).toBe(0));
    expect(answers).toBe(40);
  });
});
