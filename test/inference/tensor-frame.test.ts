import fc from 'fast-check';
import { Tensor } from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { frameBytes, ownTensor, readFrame, writeFrame } from '../../src/inference/tensor-frame.ts';

const dims = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
const bytes = fc.infiniteStream(fc.integer({ min: 0, max: 255 }));
const arrays = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  float16: Uint16Array,
} as const;

const numeric = fc
  .tuple(fc.constantFrom(...(Object.keys(arrays) as (keyof typeof arrays)[])), dims, bytes)
  .map(([type, dims, bytes]) => {
    const length = dims.reduce((product, dim) => product * dim, 1);
    const data = new arrays[type](length);
    const view = new Uint8Array(data.buffer);
    for (let i = 0; i < view.length; i++) view[i] = bytes.next().value;
    return new Tensor(type, data as Float32Array, dims);
  });
const texts = fc.array(fc.string({ unit: 'grapheme' })).map((data) => new Tensor('string', data, [data.length]));

it('gives back what it was given, in order', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(numeric, texts), { maxLength: 6 }), (tensors) => {
      const names = tensors.map((_, i) => `t${i}`);
      const buffer = new SharedArrayBuffer(64 + frameBytes(tensors));
      writeFrame(buffer, 64, tensors);
      const got = readFrame(buffer, 64, names);
      expect(Object.keys(got)).toEqual(names);
      for (const [i, tensor] of tensors.entries()) {
        const own = ownTensor(got[names[i]!]!);
        expect([own.type, own.dims]).toEqual([tensor.type, tensor.dims]);
        if (tensor.type === 'string') expect(own.data).toEqual(tensor.data);
        else expect(bytesOf(own)).toEqual(bytesOf(tensor));
      }
    }),
  );
});

function bytesOf({ data }: Tensor): number[] {
  const { buffer, byteOffset, byteLength } = data as Float32Array;
  return [...new Uint8Array(buffer, byteOffset, byteLength)];
}
