import { fileURLToPath } from 'node:url';
import { deflateSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { servable } from '../servable.ts';
import type { typedModel } from '../typed-model.ts';
import { type Answer, floats, inputsOf, type Running, start } from './running.ts';

type OnnxType = Parameters<typeof typedModel>[0];

const little = (array: NodeJS.TypedArray) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
const texts = (...elements: string[]) =>
  Buffer.concat(elements.flatMap((text) => [little(Uint32Array.of(Buffer.byteLength(text))), Buffer.from(text)]));

/** Type, data as JSON, the same in binary, and what JSON has back where that is something else. */
const kinds: readonly (readonly [string, OnnxType, unknown[], Buffer, unknown[]?])[] = [
  ['BOOL', 'bool', [true, false], Buffer.of(1, 0)],
  ['UINT8', 'uint8', [0, 255], Buffer.of(0, 255)],
  ['UINT16', 'uint16', [1, 65535], little(Uint16Array.of(1, 65535))],
  ['UINT32', 'uint32', [1, 2 ** 32 - 1], little(Uint32Array.of(1, 2 ** 32 - 1))],
  ['UINT64', 'uint64', [1, 2 ** 53 - 1], little(BigUint64Array.of(1n, 2n ** 53n - 1n))],
  ['INT8', 'int8', [-128, 127], little(Int8Array.of(-128, 127))],
  ['INT16', 'int16', [-32768, 5], little(Int16Array.of(-32768, 5))],
  ['INT32', 'int32', [-(2 ** 31), 5], little(Int32Array.of(-(2 ** 31), 5))],
  ['INT64', 'int64', [-(2 ** 53 - 1), 5], little(BigInt64Array.of(-(2n ** 53n - 1n), 5n))],
  ['FP16', 'float16', [1.5, -2], little(Uint16Array.of(0x3e00, 0xc000))],
  ['FP32', 'float32', [0.1, -1e30], little(Float32Array.of(0.1, -1e30)), [...Float32Array.of(0.1, -1e30)]],
  ['FP64', 'float64', [0.1, -1e300], little(Float64Array.of(0.1, -1e300))],
  ['BYTES', 'string', ['grüße\u001b\n', ''], texts('grüße\u001b\n', '')],
];

/** Sends JSON with bytes behind it. */
function askBinary({ ask }: Running, header: unknown, bytes: Uint8Array, headers: Record<string, string> = {}): Promise<Answer> {
  const json = Buffer.from(JSON.stringify(header));
  const body = Buffer.concat([json, bytes]);
  return ask('/v2/models/m/infer', {
    method: 'POST',
    body,
    headers: { 'inference-header-content-length': String(json.length), ...headers },
  });
}

describe.each(kinds.map(([datatype, type, data, bytes, back = data]) => ({ datatype, type, data, bytes, back })))(
  '$datatype',
  (kind) => {
    const { datatype, type, data, bytes, back } = kind;
    const nested = inputsOf({ datatype, data: [data] });
    const binary = inputsOf({ datatype, parameters: { binary_data_size: bytes.length } });

    it('goes in and out as JSON, flat and nested', async (t) => {
      const { ask } = await start(t, { type });
      for (const json of [inputsOf({ datatype, data }), nested]) {
        const answer = await ask('/v2/models/m/infer', { json });
        expect(answer.json.outputs?.[0] ?? answer.json).toEqual({ name: 'same', datatype, shape: [1, 2], data: back });
      }
    });

    it('goes in and out in binary, also one tensor alone', async (t) => {
      const server = await start(t, { type });
      const answer = await askBinary(server, { ...binary, parameters: { binary_data_output: true } }, bytes);
      const length = Number(answer.headers.get('inference-header-content-length'));
      expect(answer.headers.get('content-type')).toBe('application/octet-stream');
      expect(answer.json.outputs[0]).toEqual({
        name: 'same',
        datatype,
        shape: [1, 2],
        parameters: { binary_data_size: bytes.length },
      });
      expect(answer.bytes.subarray(length, length + bytes.length)).toEqual(bytes);
      expect(answer.bytes.readFloatLE(length + bytes.length)).toBe(32);

      const outputs = [{ name: 'same', parameters: { binary_data: false } }, { name: 'y' }];
      const mixed = await askBinary(server, { ...binary, outputs, parameters: { binary_data_output: true } }, bytes);
      expect(mixed.json.outputs).toMatchObject([{ data: back }, { parameters: { binary_data_size: 4 } }]);
      const json = await askBinary(
        server,
        { ...nested, outputs: [{ name: 'same', parameters: { binary_data: true } }] },
        bytes.subarray(0, 0),
      );
      expect(json.bytes.subarray(-bytes.length)).toEqual(bytes);
    });

    it('is refused where bytes are missing, or there are more', async (t) => {
      const server = await start(t, { type });
      expect((await askBinary(server, binary, bytes.subarray(1))).status).toBe(400);
      expect((await askBinary(server, binary, Buffer.concat([bytes, bytes]))).status).toBe(400);
      const short = inputsOf({ datatype, parameters: { binary_data_size: bytes.length - 1 } });
      expect((await askBinary(server, short, bytes.subarray(1))).status).toBe(400);
    });

    it('is refused in JSON with elements of another kind', async (t) => {
      const { ask } = await start(t, { type });
      const wrong = [null, {}, [], ...(datatype === 'BYTES' ? [1, true] : ['x', '1e3', -1e39])];
      for (const element of wrong) {
        if (datatype === 'FP64' && element === -1e39) continue;
        const { status, json } = await ask('/v2/models/m/infer', { json: inputsOf({ datatype, data: [data[0], element] }) });
        expect([status, json.error]).toEqual([400, expect.stringContaining(`tensor "value": expected ${datatype}`)]);
      }
    });
  },
);

describe('tensors', () => {
  it('of whole numbers take those alone that they can hold', async (t) => {
    const { ask } = await start(t, { type: 'uint8' });
    for (const element of [-1, 256, 0.5]) {
      const { json } = await ask('/v2/models/m/infer', { json: inputsOf({ datatype: 'UINT8', data: [0, element] }) });
      expect(json.error).toBe(`tensor "value": expected UINT8: whole numbers that it can hold, got ${element}`);
    }
  });

  it('of INT64 keep all digits: as text in JSON, and out', async (t) => {
    const { ask } = await start(t, { type: 'int64' });
    const data = ['9223372036854775807', '-9007199254740993'];
    const { bytes } = await ask('/v2/models/m/infer', { json: inputsOf({ datatype: 'INT64', data }) });
    expect(bytes.toString()).toContain('"data":[9223372036854775807,-9007199254740993]');
    const { status, json } = await ask('/v2/models/m/infer', { json: inputsOf({ datatype: 'INT64', data: [2 ** 53, 0] }) });
    expect([status, json.error]).toEqual([400, expect.stringContaining('as text or in binary from 2^53 on')]);
    const huge = JSON.stringify(inputsOf({ datatype: 'INT64', data: [7, 7] })).replace('7', '1e400');
    const headers = { 'content-type': 'application/json' };
    expect((await ask('/v2/models/m/infer', { method: 'POST', body: huge, headers })).status).toBe(400);
    const over = inputsOf({ datatype: 'INT64', data: ['9223372036854775808', '0'] });
    expect((await ask('/v2/models/m/infer', { json: over })).status).toBe(400);
  });

  it('of floats say null for what JSON cannot say, and keep the sign of zero', async (t) => {
    const server = await start(t);
    const bytes = little(Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, -0, 0.1));
    const header = inputsOf({ datatype: 'FP32', shape: [2, 2], parameters: { binary_data_size: 16 } });
    const answer = await askBinary(server, header, bytes);
    expect(answer.bytes.toString()).toContain('"data":[null,null,-0,0.10000000149011612]');
  });

  it('of BOOL in binary are zeros and ones', async (t) => {
    const server = await start(t, { type: 'bool' });
    const header = inputsOf({ datatype: 'BOOL', parameters: { binary_data_size: 2 } });
    expect((await askBinary(server, header, Buffer.of(1, 2))).json.error).toContain('BOOL as bytes of 0 and 1');
  });

  it('of BYTES are UTF-8, and end where they say', async (t) => {
    const server = await start(t, { type: 'string' });
    for (const bytes of [
      Buffer.of(1, 0, 0, 0, 0xff, 0, 0, 0, 0),
      Buffer.of(0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0),
      Buffer.of(0, 0, 0, 0, 0, 0, 0, 0, 1),
      Buffer.of(0, 0, 0, 0, 9, 0, 0, 0, 65),
    ]) {
      const header = inputsOf({ datatype: 'BYTES', parameters: { binary_data_size: 9 } });
      expect((await askBinary(server, header, bytes)).status).toBe(400);
    }
  });

  it('of BYTES have no zero byte, at which onnxruntime would cut them off', async (t) => {
    const { ask } = await start(t, { type: 'string' });
    const { status, json } = await ask('/v2/models/m/infer', { json: inputsOf({ datatype: 'BYTES', data: ['a\u0000b', ''] }) });
    expect([status, json.error]).toEqual([400, 'm: expected input "value" as text without zero bytes, got some']);
  });

  it('without elements are none the less tensors', async (t) => {
    const { ask } = await start(t);
    const json = {
      inputs: [
        { name: 'value', datatype: 'FP32', shape: [0, 3], data: [] },
        { name: 'x', datatype: 'FP32', shape: [0, 2], data: [] },
      ],
    };
    const { json: answer } = await ask('/v2/models/m/infer', { json });
    expect(answer.outputs).toEqual([
      { name: 'same', datatype: 'FP32', shape: [0, 3], data: [] },
      { name: 'y', datatype: 'FP32', shape: [0, 1], data: [] },
    ]);
  });
});

it('takes compressed bodies', async (t) => {
  const { ask } = await start(t, { limits: { bodyBytes: 10_000 } });
  for (const [encoding, compress] of [
    ['gzip', gzipSync],
    ['deflate', deflateSync],
  ] as const) {
    const send = (text: string | Buffer) =>
      ask('/v2/models/m/infer', {
        method: 'POST',
        body: compress(text) as Buffer<ArrayBuffer>,
        headers: { 'content-encoding': encoding, 'content-type': 'application/json' },
      });
    expect((await send(JSON.stringify(floats))).json.outputs[1].data).toEqual([32]);
    const bomb = await send(Buffer.alloc(1_000_000, ' '));
    expect([bomb.status, bomb.json.error]).toEqual([413, `body: expected at most 10000 bytes, got more, behind ${encoding}`]);
  }
  const headers = { 'content-encoding': 'gzip', 'content-type': 'application/json' };
  expect((await ask('/v2/models/m/infer', { json: floats, headers })).status).toBe(400);
  expect((await ask('/v2/models/m/infer', { json: floats, headers: { 'content-encoding': 'br' } })).status).toBe(415);
});

it('takes the bytes of an only input without JSON', async (t) => {
  const model = await servable(t, fileURLToPath(new URL('../../models/mlp.onnx', import.meta.url)));
  const { ask } = await start(t, { model });
  const headers = { 'inference-header-content-length': '0' };
  const rows = await ask('/v2/models/m/infer', { method: 'POST', body: little(new Float32Array(12)), headers });
  expect(rows.json.outputs).toEqual([{ name: 'output', datatype: 'FP32', shape: [2, 3], parameters: { binary_data_size: 24 } }]);
  const { status, json } = await ask('/v2/models/m/infer', { method: 'POST', body: Buffer.alloc(25), headers });
  expect([status, json.error]).toEqual([400, 'tensor "x": expected a multiple of 24 bytes, got 25']);
  const two = await start(t);
  expect((await two.ask('/v2/models/m/infer', { method: 'POST', body: Buffer.alloc(24), headers })).status).toBe(400);
});
