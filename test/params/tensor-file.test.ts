import { describe, expect, it } from 'vitest';
import { planTensorFile, readTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';

/** A file with any header, and so many bytes of data. */
function file(header: unknown, dataBytes = 8, announced?: bigint): Uint8Array {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(announced ?? BigInt(text.byteLength));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

const tensor = (changes: object = {}) => ({ w: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...changes } });

describe('a file of tensors', () => {
  it('has its data at a multiple of 8 bytes, whatever the names are, and is read back', () => {
    for (let length = 1; length <= 17; length++) {
      const names = ['a'.repeat(length), 'ü'.repeat(length)];
      const written = writeTensorFile(
        planTensorFile(
          names.map((name, i) => [name, { dims: [1, 3], data: Float32Array.of(i, length, -0.5) }] as const),
          { made: 'here' },
        ),
      );
      const headerBytes = Number(Buffer.from(written).readBigUInt64LE(0));
      expect(headerBytes % 8).toBe(0);
      expect(written.byteLength).toBe(8 + headerBytes + 24);
      const { tensors, metadata, unread } = readTensorFile(written);
      expect([...tensors].map(([name, { dims, data }]) => [name, dims, [...data]])).toEqual([
        [names[0], [1, 3], [0, length, -0.5]],
        [names[1], [1, 3], [1, length, -0.5]],
      ]);
      expect(metadata).toEqual({ made: 'here' });
      expect(unread.size).toBe(0);
    }
  });

  it('is read from the middle of a buffer, and without metadata', () => {
    const bytes = file(tensor());
    const { tensors, metadata } = readTensorFile(
      Buffer.concat([Buffer.alloc(5), bytes, Buffer.alloc(3)]).subarray(5, 5 + bytes.length),
    );
    expect([...tensors.get('w')!.data]).toEqual([0, 0]);
    expect(metadata).toEqual({});
  });

  it('may have tensors of no elements, and of no dimensions', () => {
    const { tensors } = readTensorFile(
      file({ e: { dtype: 'F32', shape: [0, 3], data_offsets: [0, 0] }, s: { dtype: 'F64', shape: [], data_offsets: [0, 8] } }),
    );
    expect([...tensors].map(([name, { dims, data }]) => [name, dims, data.length])).toEqual([
      ['e', [0, 3], 0],
      ['s', [], 1],
    ]);
  });

  it('says which tensors it does not read', () => {
    const { tensors, unread } = readTensorFile(
      file({ ...tensor(), b: { dtype: 'BOOL', shape: [1], data_offsets: [0, 1] }, n: null }),
    );
    expect([...tensors.keys()]).toEqual(['w']);
    expect([...unread]).toEqual([
      ['b', 'BOOL'],
      ['n', 'undefined'],
    ]);
  });
});

describe('is refused in words:', () => {
  it.each<[string, Uint8Array, RegExp]>([
    ['a file of 7 bytes', new Uint8Array(7), /expected a safetensors file, got 7 bytes/],
    ['a header that is too long', file('{}', 8, 100_000_001n), /header of at most 100000000 bytes, got 100000001/],
    ['a header that is longer than the file', file('{}', 0, 3n), /a header of 3 bytes, got 2 bytes/],
    ['a header that is an array', file('[]'), /a JSON object/],
    ['a header that is null', file('null'), /a JSON object/],
    ['a header that is no JSON', file('{'), /a JSON object/],
    ['a shape that is none', file(tensor({ shape: 2 })), /a shape for "w"/],
    ['a shape of fractions', file(tensor({ shape: [1.5] })), /a shape for "w"/],
    ['a negative shape', file(tensor({ shape: [-2] })), /a shape for "w"/],
    ['a shape of too many dimensions', file(tensor({ shape: [...Array(64).fill(1), 2] })), /a shape for "w"/],
    ['no place', file(tensor({ data_offsets: undefined })), /8 bytes of the file for "w" \[2\], got data_offsets undefined/],
    ['a place of three numbers', file(tensor({ data_offsets: [0, 8, 9] })), /got data_offsets 0,8,9/],
    ['a place before the data', file(tensor({ data_offsets: [-8, 0] })), /got data_offsets -8,0/],
    ['a place that is too small', file(tensor({ data_offsets: [0, 7] })), /got data_offsets 0,7/],
    ['a place behind the file', file(tensor({ data_offsets: [1, 9] })), /got data_offsets 1,9/],
  ])('%s', (_, bytes, message) => {
    expect(() => readTensorFile(bytes)).toThrow(
      expect.objectContaining({ code: 'RXGRAD_INVALID_CHECKPOINT', message: expect.stringMatching(message) }),
    );
  });

  it('as many dimensions as there may be are none of that', () => {
    const { tensors } = readTensorFile(file(tensor({ shape: [...Array(63).fill(1), 2] })));
    expect(tensors.get('w')!.data.length).toBe(2);
  });

  it('a path that leads nowhere', () => {
    expect(() => readTensorFile('/nowhere/at-all.safetensors')).toThrow(
      expect.objectContaining({
        code: 'RXGRAD_INVALID_CHECKPOINT',
        message: expect.stringMatching(/nowhere.*a file that can be read.*ENOENT/),
        cause: expect.objectContaining({ code: 'ENOENT' }),
      }),
    );
  });
});
