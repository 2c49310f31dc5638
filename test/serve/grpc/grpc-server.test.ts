import { connect } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { HotSwapSession } from 'rxgrad';
import { describe, expect, it, vi } from 'vitest';
import {
  ModelConfigRequestSchema,
  type ModelConfigResponse,
  ModelInferRequestSchema,
  type ModelInferResponse,
  ModelMetadataRequestSchema,
  type ModelMetadataResponse,
  ModelReadyRequestSchema,
  ModelStatisticsRequestSchema,
  type ModelStatisticsResponse,
  type ModelStreamInferResponse,
  RepositoryIndexRequestSchema,
  type RepositoryIndexResponse,
  ServerLiveRequestSchema,
  ServerMetadataRequestSchema,
  ServerReadyRequestSchema,
} from '../../../src/serve/grpc/inference_pb.ts';
import { inferenceService } from '../../../src/serve/grpc/service-definition.ts';
import { certificate } from '../../broker/certificates.ts';
import { eventually } from '../../eventually.ts';
import { buildModel, floats, node, value } from '../../inference/onnx/build-model.ts';
import { grpcClient } from './grpc-client.ts';
import { serveGrpc } from './serve-grpc.ts';

const ones = new Uint8Array(new Float32Array(8).fill(1).buffer);
const x = { name: 'x', datatype: 'FP32', shape: [2n, 4n] };
const linear = (more: object = {}) =>
  create(ModelInferRequestSchema, { modelName: 'linear', inputs: [x], rawInputContents: [ones], ...more });
const floatsOf = (bytes: Uint8Array) => [...new Float32Array(Uint8Array.from(bytes).buffer)];

/** Holds the next prediction of a session back until it is released. */
function held(session: HotSwapSession) {
  const begun = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const predict = session.predict.bind(session);
  vi.spyOn(session, 'predict').mockImplementationOnce(async (...asked) => {
    begun.resolve();
    await released.promise;
    return predict(...asked);
  });
  return { begun: begun.promise, release: released.resolve };
}

/** Takes a second or more: products of matrices, one after the other. */
function slowModel(): Uint8Array {
  const count = 40;
  const products = Array.from({ length: count }, (_, i) => node('MatMul', [`p${i}`, 'p0'], [`p${i + 1}`]));
  return buildModel({
    initializer: [floats('w', [1], [1])],
    node: [
      node('Expand', ['x', 'shape'], ['p0']),
      ...products,
      node('ReduceMean', [`p${count}`], ['mean']),
      node('Mul', ['mean', 'w'], ['y']),
    ],
    input: [value('x', [1, 1]), value('shape', [2], 7)],
    output: [value('y', [1, 1])],
  });
}
const slow = (side: bigint) =>
  create(ModelInferRequestSchema, {
    modelName: 'slow',
    inputs: [
      { name: 'x', datatype: 'FP32', shape: [1n, 1n], contents: { fp32Contents: [0] } },
      { name: 'shape', datatype: 'INT64', shape: [2n], contents: { int64Contents: [side, side] } },
    ],
  });
/** On another thread, so that the server goes on meanwhile. */
const withSlow = { more: { slow: slowModel() }, session: { workers: 1 } };

describe('a gRPC server', () => {
  it('tells of itself and of its models', async (context) => {
    const { port } = await serveGrpc(context);
    const { call } = grpcClient(context, port);
    expect((await call('serverLive', create(ServerLiveRequestSchema))).message).toMatchObject({ live: true });
    expect((await call('serverReady', create(ServerReadyRequestSchema))).message).toMatchObject({ ready: true });
    const ready = await call('modelReady', create(ModelReadyRequestSchema, { name: 'linear' }));
    expect(ready.message).toMatchObject({ ready: true });
    const server = await call('serverMetadata', create(ServerMetadataRequestSchema));
    expect(server.message).toMatchObject({ name: 'rxgrad' });
    const about = create(ModelMetadataRequestSchema, { name: 'linear' });
    const { message: metadata } = await call<ModelMetadataResponse>('modelMetadata', about);
    expect(metadata.inputs).toMatchObject([{ name: 'x', datatype: 'FP32', shape: [-1n, 4n] }]);
    expect(metadata.outputs).toMatchObject([{ name: 'y', datatype: 'FP32', shape: [-1n, 2n] }]);
    expect(metadata.versions).toEqual(['0']);
    const config = await call<ModelConfigResponse>('modelConfig', create(ModelConfigRequestSchema, { name: 'everything' }));
    expect(config.message.config?.input.map(({ name, dataType }) => [name, dataType])).toEqual([
      ['fp32', 11],
      ['fp64', 12],
      ['fp16', 10],
      ['int32', 8],
      ['int64', 9],
      ['uint8', 2],
      ['bool', 1],
      ['bytes', 13],
    ]);
    const index = await call<RepositoryIndexResponse>('repositoryIndex', create(RepositoryIndexRequestSchema));
    expect(index.message.models).toMatchObject([
      { name: 'everything', state: 'READY' },
      { name: 'linear', version: '0', state: 'READY' },
    ]);
  });

  it('answers predictions, with the version and age of the weights', async (context) => {
    const { port } = await serveGrpc(context);
    const { call } = grpcClient(context, port);
    const { message } = await call<ModelInferResponse>('modelInfer', linear({ id: 'a b' }));
    expect(message).toMatchObject({ modelName: 'linear', modelVersion: '0', id: 'a b' });
    expect(message.outputs).toMatchObject([{ name: 'y', datatype: 'FP32', shape: [2n, 2n] }]);
    expect(floatsOf(message.rawOutputContents[0]!)).toEqual([4, 4, 4, 4]);
    expect(message.parameters.version?.parameterChoice).toEqual({ case: 'int64Param', value: 0n });
    expect(message.parameters.age_ms?.parameterChoice.case).toBe('int64Param');
    await expect(call('modelInfer', linear({ modelName: 'nobody' }))).rejects.toThrow();
    const asked = create(ModelStatisticsRequestSchema, { name: 'linear' });
    const { message: statistics } = await call<ModelStatisticsResponse>('modelStatistics', asked);
    expect(statistics.modelStats).toMatchObject([
      { name: 'linear', inferenceCount: 1n, inferenceStats: { fail: { count: 0n } } },
    ]);
  });

  it.for([
    ['a model that is not there', { modelName: 'no\u0000body' }, status.NOT_FOUND, /"no\?body"/],
    ['a version that is not there', { modelVersion: '7' }, status.NOT_FOUND, /got 7/],
    ['another type', { inputs: [{ ...x, datatype: 'FP64', shape: [1n, 4n] }] }, status.INVALID_ARGUMENT, /"x" as FP32, got FP64/],
    ['no type', { inputs: [{ ...x, datatype: 'FLOAT' }] }, status.INVALID_ARGUMENT, /a datatype \(.*got "FLOAT"/],
    ['another shape', { inputs: [{ ...x, shape: [4n, 2n] }] }, status.INVALID_ARGUMENT, /"x" with dims \[n,4\], got \[4,2\]/],
    [
      'a shape below 0',
      { inputs: [{ ...x, shape: [-1n, 8n] }] },
      status.INVALID_ARGUMENT,
      /whole numbers from 0 on, got \[-1,8\]/,
    ],
    [
      'a huge shape',
      { inputs: [{ ...x, shape: [1n << 40n, 1n << 40n] }] },
      status.RESOURCE_EXHAUSTED,
      /at most 16777216 elements/,
    ],
    ['too few bytes', { rawInputContents: [ones.subarray(4)] }, status.INVALID_ARGUMENT, /32 bytes .* got 28/],
    ['raw contents for one of none', { rawInputContents: [ones, ones] }, status.INVALID_ARGUMENT, /one for each of the 1 inputs/],
    [
      'both contents',
      { inputs: [{ ...x, contents: { fp32Contents: [1] } }] },
      status.INVALID_ARGUMENT,
      /contents or raw_input_contents, got both/,
    ],
    ['no output of the model', { outputs: [{ name: 'z' }] }, status.INVALID_ARGUMENT, /an output of the model \(y\), got "z"/],
  ] as const)('refuses %s', async ([, more, code, message], context) => {
    const { port } = await serveGrpc(context);
    const { call } = grpcClient(context, port);
    const failing = call('modelInfer', linear(more));
    await expect(failing).rejects.toMatchObject({ code, details: expect.stringMatching(message) });
    await expect(call('modelInfer', linear())).resolves.toBeDefined();
  });

  it('refuses methods and bytes that are none of the protocol', async (context) => {
    const { port } = await serveGrpc(context);
    const { call } = grpcClient(context, port);
    const unknown = call('/inference.GRPCInferenceService/TraceSetting', new Uint8Array());
    await expect(unknown).rejects.toMatchObject({ code: status.UNIMPLEMENTED });
    const garbage = call('modelInfer', Uint8Array.of(0xff, 0xff));
    await expect(garbage).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(/ModelInferRequest/),
    });
  });

  it('refuses what is too large, before it becomes larger', async (context) => {
    const { port } = await serveGrpc(context, { limits: { bodyBytes: 40 << 20 } });
    const { call } = grpcClient(context, port);
    const refused = { code: status.RESOURCE_EXHAUSTED };
    await expect(call('modelInfer', new Uint8Array((40 << 20) + 1))).rejects.toMatchObject(refused);
    const tensors = new Uint8Array(2 * 1_000_000);
    for (let i = 0; i < tensors.length; i += 2) tensors[i] = (5 << 3) | WireType.LengthDelimited;
    await expect(call('modelInfer', tensors)).rejects.toMatchObject({
      ...refused,
      details: expect.stringMatching(/262144 tensors/),
    });
    const values = create(ModelInferRequestSchema, {
      modelName: 'linear',
      inputs: [{ ...x, contents: { boolContents: new Array<boolean>((1 << 24) + 1).fill(true) } }],
    });
    await expect(call('modelInfer', values)).rejects.toMatchObject({ ...refused, details: expect.stringMatching(/outside raw/) });
    await expect(call('modelInfer', linear())).resolves.toBeDefined();
  });

  it('gives up what the client has given up, or wanted earlier', async (context) => {
    const { port, lines } = await serveGrpc(context, {}, withSlow);
    const { call } = grpcClient(context, port);
    await expect(call('modelInfer', slow(900n), { deadlineMs: 100 })).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
    const giveUp = AbortSignal.timeout(50);
    await expect(call('modelInfer', slow(900n), { signal: giveUp })).rejects.toMatchObject({ code: status.CANCELLED });
    await eventually(() => expect(lines).toHaveLength(2));
    // A client that gives up at its deadline says so, which may come before the server's own clock gets there.
    expect(['DEADLINE_EXCEEDED', 'CANCELLED']).toContain(lines[0]!.status);
    expect(lines[1]!.status).toBe('CANCELLED');
  });

  it('refuses what would wait too long, or behind too many', async (context) => {
    const { port } = await serveGrpc(context, { predictMs: 500 }, { ...withSlow, session: { workers: 1, maxQueue: 1 } });
    const { call } = grpcClient(context, port);
    const ends = await Promise.all(
      Array.from({ length: 6 }, () =>
        call('modelInfer', slow(1200n)).then(
          () => status.OK,
          (error: ServiceError) => error.code,
        ),
      ),
    );
    expect(ends).toContain(status.RESOURCE_EXHAUSTED);
    expect(ends).toContain(status.DEADLINE_EXCEEDED);
    expect(ends.every((code) => code === status.RESOURCE_EXHAUSTED || code === status.DEADLINE_EXCEEDED)).toBe(true);
  });

  it('answers a stream of requests in their order, failures among them', async (context) => {
    const { port, lines } = await serveGrpc(context);
    const { client } = grpcClient(context, port);
    const { path, requestSerialize, responseDeserialize } = inferenceService.modelStreamInfer!;
    const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata());
    for (const id of ['a', 'b', 'c']) stream.write(linear({ id, ...(id === 'b' ? { modelVersion: '9' } : {}) }));
    stream.end();
    const answers: ModelStreamInferResponse[] = [];
    for await (const answer of stream) answers.push(answer as ModelStreamInferResponse);
    expect(answers.map(({ errorMessage, inferResponse }) => [inferResponse?.id, errorMessage])).toEqual([
      ['a', ''],
      ['b', expect.stringContaining('got 9')],
      ['c', ''],
    ]);
    await eventually(() => expect(lines).toMatchObject([{ method: 'ModelStreamInfer', status: 'OK' }]));
  });

  it('writes a line for each call, with its id and its trace', async (context) => {
    const { port, lines } = await serveGrpc(context);
    const { call } = grpcClient(context, port);
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const { trailers } = await call('modelInfer', linear(), { headers: { traceparent, 'x-request-id': 'r-1' } });
    expect(trailers.get('x-request-id')).toEqual(['r-1']);
    expect(trailers.get('traceresponse')).toEqual([`00-0af7651916cd43dd8448eb211c80319c-${lines[0]!.spanId}-01`]);
    expect(lines).toMatchObject([
      { requestId: 'r-1', traceId: '0af7651916cd43dd8448eb211c80319c', method: 'ModelInfer', status: 'OK' },
    ]);
    const failing = call('modelInfer', linear({ modelName: 'nobody' }), { headers: { traceparent: 'nonsense' } });
    const error = await failing.catch((failure: ServiceError) => failure);
    expect((error as ServiceError).metadata.getMap()).toMatchObject({ 'rxgrad-code': 'RXGRAD_UNKNOWN_MODEL' });
    expect(lines[1]).toMatchObject({ status: 'NOT_FOUND', error: expect.stringContaining('nobody') });
    expect((error as ServiceError).metadata.get('x-request-id')).toEqual([lines[1]!.requestId]);
  });

  it('speaks TLS', async (context) => {
    const authority = certificate('authority');
    const own = certificate('server', { issuer: authority, hosts: ['localhost'] });
    const { port } = await serveGrpc(context, { tls: { ...own, ca: undefined } });
    const secured = credentials.createSsl(Buffer.from(authority.cert));
    await expect(grpcClient(context, port, secured).call('modelInfer', linear())).resolves.toBeDefined();
    await expect(grpcClient(context, port).call('modelInfer', linear())).rejects.toMatchObject({ code: status.UNAVAILABLE });
  });

  it('drains: answers what is under way, and takes nothing new', async (context) => {
    const { port, server, sessions } = await serveGrpc(context);
    const { begun, release } = held(sessions.linear!);
    const underWay = grpcClient(context, port).call('modelInfer', linear());
    await begun;
    const closing = server.close(60_000);
    await eventually(async () => {
      const late = grpcClient(context, port).call('serverLive', create(ServerLiveRequestSchema));
      await expect(late).rejects.toMatchObject({ code: status.UNAVAILABLE });
    });
    release();
    await expect(underWay).resolves.toBeDefined();
    await closing;
  });

  it('cuts off what is not done in time', async (context) => {
    const { port, server, sessions } = await serveGrpc(context);
    const { begun, release } = held(sessions.linear!);
    const underWay = grpcClient(context, port).call('modelInfer', linear());
    const failed = expect(underWay).rejects.toMatchObject({ code: expect.any(Number) });
    await begun;
    await server.close(100);
    await failed;
    release();
  });

  it('closes connections above the limit, and those that say nothing', async (context) => {
    const { port } = await serveGrpc(context, { limits: { connections: 3 }, idleMs: 300 });
    const closed: number[] = [];
    const sockets = Array.from({ length: 5 }, (_, i) =>
      connect(port, '127.0.0.1')
        .on('close', () => closed.push(i))
        .on('error', () => {})
        .resume(),
    );
    context.onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
    });
    await eventually(() => expect(closed.length).toBeGreaterThanOrEqual(2));
    await eventually(() => expect(closed).toHaveLength(5));
    await expect(grpcClient(context, port).call('modelInfer', linear())).resolves.toBeDefined();
  });
});
