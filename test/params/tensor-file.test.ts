import { describe, expect, it } from 'vitest';
import { planTensorFile, readTensorFile, tensorFileHeader, writeTensorFile } from '../../src/params/tensor-file.ts';

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

  it('may be nothing but a header', () => {
    const { tensors, arrays, metadata } = readTensorFile(file('{}', 0));
    expect([tensors.size, arrays, metadata]).toEqual([0, {}, {}]);
  });

  it('may have whole numbers, which are little-endian as all is', () => {
    const bytes = file(
      { l: { dtype: 'I64', shape: [2], data_offsets: [0, 16] }, i: { dtype: 'I32', shape: [1], data_offsets: [16, 20] } },
      20,
    );
    const data = Buffer.from(bytes.buffer, bytes.byteOffset + bytes.byteLength - 20);
    data.writeBigInt64LE(-3n, 0);
    data.writeBigInt64LE(70_000n, 8);
    data.writeInt32LE(-258, 16);
    expect([...readTensorFile(bytes).tensors].map(([name, { data }]) => [name, ...data])).toEqual([
      ['l', -3, 70_000],
      ['i', -258],
    ]);
  });

  it('keeps arrays as they are, beside the tensors, and their data is where the plan says', () => {
    const arrays = {
      ids: BigInt64Array.of(-1n, 2n ** 60n),
      counts: Int32Array.of(1, -2, 3),
      small: Int16Array.of(-300),
      bytes: Uint8Array.of(1, 2, 255),
    };
    const plan = planTensorFile([['w', { dims: [2], data: Float32Array.of(1, -2) }]], {}, arrays);
    const written = writeTensorFile(plan);
    const sizes = [8, 16, 12, 2, 3];
    const places = sizes.map((_, i) => plan.header.byteLength + sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
    expect(plan.parts.map(({ at }) => at)).toEqual(places);
    expect([plan.byteLength, written.byteLength]).toEqual([plan.header.byteLength + 41, plan.header.byteLength + 41]);
    const read = readTensorFile(written);
    expect(read.arrays).toEqual(arrays);
    expect([...read.tensors.keys()]).toEqual(['w']);
    const header = JSON.parse(plan.header.toString('utf8', 8)) as Record<string, unknown>;
    expect(header['rxgrad.small']).toEqual({ dtype: 'I16', shape: [1], data_offsets: [36, 38] });
  });

  it('is not written with a header that would not be read', () => {
    const names = Array.from({ length: 20 }, (_, i) => [`tensor ${i}`, { dtype: 'F32' }] as const);
    const { byteLength } = tensorFileHeader({}, names);
    expect(tensorFileHeader({}, names, byteLength - 8).byteLength).toBe(byteLength);
    expect(() => tensorFileHeader({}, names, byteLength - 9)).toThrow(
      expect.objectContaining({
        code: 'RXGRAD_INVALID_CHECKPOINT',
        message: expect.stringMatching(/being written: expected a header of at most/),
      }),
    );
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
    ['a header as long as any may be, in a short file', file('{}', 8, 100_000_000n), /a header of 100000000 bytes, got 10 bytes/],
    ['a header that is text', file('"x"'), /a JSON object/],
    ['a header that is no UTF-8', file('{"w?": null}', 0).map((byte) => (byte === 0x3f ? 0xff : byte)), /a JSON object/],
    [
      'an array of a type that none has',
      file({ 'rxgrad.x': { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }),
      /"rxgrad.x" as one of I64,I32,I16,U8, got F32/,
    ],
    ['an array that is null', file({ 'rxgrad.x': null }), /"rxgrad.x" as one of/],
    [
      'an array behind the file',
      file({ 'rxgrad.x': { dtype: 'U8', shape: [9], data_offsets: [0, 9] } }),
      /9 bytes of the file for "rxgrad.x"/,
    ],
    ['a tensor that is no object', file({ w: { dtype: 'F32' } }), /a shape for "w"/],
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
