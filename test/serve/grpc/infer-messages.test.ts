import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { requestOf, responseOf } from '../../../src/serve/grpc/infer-messages.ts';
import {
  type ModelInferRequest,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
} from '../../../src/serve/grpc/inference_pb.ts';

const limits = { tensors: 4, elements: 1000 };
type Init = MessageInitShape<typeof ModelInferRequestSchema>;

/** As it comes from the wire. */
function received(init: Init): ModelInferRequest {
  return fromBinary(ModelInferRequestSchema, toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, init)));
}
const read = (init: Init) => requestOf(received({ modelName: 'm', ...init }), limits);
const one = (datatype: string, contents: object, shape = [2n]) =>
  read({ inputs: [{ name: 't', datatype, shape, contents }] }).inputs[0]!;

describe('a message of a request', () => {
  it.for([
    ['BOOL', { boolContents: [true, false] }, Uint8Array.of(1, 0)],
    ['INT8', { intContents: [-128, 127] }, Int8Array.of(-128, 127)],
    ['INT16', { intContents: [-32768, 32767] }, Int16Array.of(-32768, 32767)],
    ['INT32', { intContents: [-(2 ** 31), 2 ** 31 - 1] }, Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
    ['INT64', { int64Contents: [-(2n ** 63n), 2n ** 63n - 1n] }, BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)],
    ['UINT8', { uintContents: [0, 255] }, Uint8Array.of(0, 255)],
    ['UINT16', { uintContents: [0, 65535] }, Uint16Array.of(0, 65535)],
    ['UINT32', { uintContents: [0, 2 ** 32 - 1] }, Uint32Array.of(0, 2 ** 32 - 1)],
    ['UINT64', { uint64Contents: [0n, 2n ** 64n - 1n] }, BigUint64Array.of(0n, 2n ** 64n - 1n)],
    ['FP32', { fp32Contents: [0.5, Number.NaN] }, Float32Array.of(0.5, Number.NaN)],
    ['FP64', { fp64Contents: [0.1, Number.NEGATIVE_INFINITY] }, Float64Array.of(0.1, Number.NEGATIVE_INFINITY)],
    ['BYTES', { bytesContents: [Buffer.from('日本'), Buffer.from('')] }, ['日本', '']],
  ] as const)('holds %s in contents', ([datatype, contents, data]) => {
    expect(one(datatype, contents)).toEqual({ name: 't', datatype, shape: [2], data });
  });

  it.for([
    ['a number that its type cannot hold', 'INT8', { intContents: [1, 300] }, /INT8, got 300/],
    ['values where others belong', 'INT64', { intContents: [1, 2] }, /INT64 in int64_contents, got values in int_contents/],
    ['half floats', 'FP16', { fp32Contents: [1, 2] }, /FP16 in raw_input_contents/],
    ['fewer elements than its shape says', 'FP32', { fp32Contents: [1] }, /2 elements in fp32_contents.*got 1/],
    ['bytes that are no text', 'BYTES', { bytesContents: [Uint8Array.of(255), Buffer.from('a')] }, /UTF-8/],
  ] as const)('is refused with %s in contents', ([, datatype, contents, message]) => {
    expect(() => one(datatype, contents)).toThrow(message);
  });

  it.for([
    ['too many inputs', { inputs: new Array(5).fill({ name: 'a', datatype: 'FP32' }) }, /at most 4 of them, got 5/],
    ['too many outputs', { outputs: new Array(5).fill({ name: 'a' }) }, /at most 4 of them, got 5/],
    ['too many elements', { inputs: [{ datatype: 'FP32', shape: [1001n] }] }, /at most 1000 elements, got \[1001\]/],
    ['too many sizes', { inputs: [{ datatype: 'FP32', shape: new Array(17).fill(1n) }] }, /at most 16 sizes, got 17/],
    [
      'shared memory',
      {
        inputs: [
          { datatype: 'FP32', parameters: { shared_memory_region: { parameterChoice: { case: 'stringParam', value: 'r' } } } },
        ],
      },
      /a region of shared memory/,
    ],
    [
      'a classification',
      { outputs: [{ name: 'y', parameters: { classification: { parameterChoice: { case: 'int64Param', value: 3n } } } }] },
      /output "y": expected no such parameter, got classification/,
    ],
  ] as const)('is refused with %s', ([, init, message]) => {
    expect(() => read(init as Init)).toThrow(message);
  });

  it('has parameters of every kind, whatever they are called', () => {
    const parameters = {
      flag: { parameterChoice: { case: 'boolParam', value: true } },
      count: { parameterChoice: { case: 'int64Param', value: -7n } },
      large: { parameterChoice: { case: 'uint64Param', value: 9n } },
      rate: { parameterChoice: { case: 'doubleParam', value: 0.5 } },
      ['__proto__']: { parameterChoice: { case: 'stringParam', value: 'x' } },
      none: {},
    } as const;
    const { parameters: found } = read({ parameters });
    expect(Object.entries(found)).toEqual([
      ['flag', true],
      ['count', -7],
      ['large', 9],
      ['rate', 0.5],
      ['__proto__', 'x'],
    ]);
    expect(Object.getPrototypeOf(found)).toBe(Object.prototype);
  });

  it('gives back in a response what raw contents held', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), fc.array(fc.float()), (texts, numbers) => {
        const data = Float32Array.from(numbers);
        const written = responseOf({
          model: 'm',
          version: '3',
          id: 'i',
          parameters: { version: 3, age_ms: 1.5, position: 't/0/1', stale: true },
          outputs: [
            { name: 'texts', datatype: 'BYTES', shape: [texts.length], data: texts },
            { name: 'numbers', datatype: 'FP32', shape: [data.length, 1], data },
          ],
        });
        const bytes = toBinary(ModelInferResponseSchema, written);
        const { outputs, rawOutputContents, parameters } = fromBinary(ModelInferResponseSchema, bytes);
        expect(parameters.age_ms?.parameterChoice).toEqual({ case: 'doubleParam', value: 1.5 });
        const inputs = outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape }));
        expect(read({ inputs, rawInputContents: rawOutputContents }).inputs.map((input) => input.data)).toEqual([texts, data]);
      }),
    );
  });
});
