import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { type GradientInput, gradientBatch } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { type Safetensors, SafetensorsReader, writeSafetensors } from '../../src/sources/safetensors.ts';

/** A file with any header. */
function file(header: unknown, payload = new Uint8Array()): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeUInt32LE(text.byteLength);
  return Buffer.concat([length, text, payload]);
}

function written(gradients: Record<string, GradientInput>): Buffer {
  const { layout, payload } = gradientBatch({ gradients }).message;
  return writeSafetensors(layout, payload);
}

function accepted(bytes: Uint8Array, reader = new SafetensorsReader()): Safetensors {
  const read = reader.read(bytes);
  if (typeof read === 'function') throw read('file');
  return read;
}

describe('a file that would not be read', () => {
  it('is not written', () => {
    const dims = Array<number>(17).fill(1);
    expect(() => written({ w: { dims, data: Float32Array.of(1) } })).toThrow('at most 16 dimensions, got 17');
    const long = Object.fromEntries(Array.from({ length: 3 }, (_, i) => [`${i}`.padEnd(1_400_000, 'x'), new Float32Array(1)]));
    expect(() => written(long)).toThrow('a header of at most 4194304 bytes, got 42');
    expect(() => written(Object.fromEntries(Object.entries(long).slice(1)))).not.toThrow();
  });
});

function problem(bytes: Uint8Array): string {
  const read = new SafetensorsReader().read(bytes);
  return typeof read === 'function' ? `${read('t/0@1').code} ${read('t/0@1').message}` : 'read';
}

function valuesOf({ layout, payload }: Safetensors): Record<string, { dims: readonly number[] | null; data: number[] }> {
  const floats = new Float32Array(Uint8Array.from(payload).buffer);
  return Object.fromEntries(
    layout.tensors.map(({ name, dims, begin, length }) => [
      name,
      { dims, data: [...floats.slice(begin / 4, begin / 4 + length)] },
    ]),
  );
}

const f32 = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };

/** Two rows of one number each, `a`, changed in some way. */
function rowsOf(indices: object, values: object): object {
  return { 'a.indices': { ...f32, dtype: 'I32', ...indices }, 'a.values': { ...f32, data_offsets: [8, 16], ...values } };
}

function rowsFile(indices: object, values: object): Buffer {
  return file(rowsOf(indices, values));
}

const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;

describe('safetensors', () => {
  it('gives back what was written, bit for bit', () => {
    const tensors = fc.dictionary(
      fc.string({ minLength: 1, unit: 'grapheme' }).filter((name) => name !== '__metadata__' && name !== '__proto__'),
      fc.array(fc.float(), { maxLength: 9 }).map((values) => Float32Array.from(values)),
    );
    fc.assert(
      fc.property(tensors, (gradients) => {
        const { layout, payload } = gradientBatch({ gradients }).message;
        const read = accepted(writeSafetensors(layout, payload));
        expect(read.layout.tensors).toEqual(
          layout.tensors.map((tensor) => ({ ...tensor, dims: [tensor.length] })).filter(({ name }) => name in gradients),
        );
        expect(Buffer.compare(read.payload, payload)).toBe(0);
      }),
    );
  });

  it('keeps dims, and aligns the data to 8 bytes', () => {
    const bytes = written({ a: { dims: [2, 1], data: Float32Array.of(1, 2) }, s: { dims: [], data: Float32Array.of(3) } });
    expect(valuesOf(accepted(bytes))).toEqual({ a: { dims: [2, 1], data: [1, 2] }, s: { dims: [], data: [3] } });
    expect((8 + bytes.readUInt32LE(0)) % 8).toBe(0);
  });

  it('reads what the Python library writes', () => {
    expect(valuesOf(accepted(readFileSync(new URL('./fixtures/from-python.safetensors', import.meta.url))))).toEqual({
      'dense.weight': { dims: [2, 3], data: [0, 0.25, 0.5, 0.75, 1, 1.25] },
      'dense.bias': { dims: [3], data: [-0.5, 0, Math.fround(1e-40)] },
      scale: { dims: [], data: [2.5] },
      empty: { dims: [0, 4], data: [] },
    });
  });

  it('leaves metadata alone', () => {
    const read = accepted(file({ __metadata__: { any: 'thing' }, a: f32 }, new Uint8Array(8)));
    expect(read.layout.tensors.map(({ name }) => name)).toEqual(['a']);
  });

  it('aligns the data whatever names there are', () => {
    for (let length = 1; length <= 16; length++) {
      const bytes = written({ ['x'.repeat(length)]: Float32Array.of(1) });
      const header = bytes.readUInt32LE(0);
      expect(header % 8).toBe(0);
      expect(bytes.toString('utf8', 8, 8 + header)).toMatch(/\}\} {0,7}$/);
    }
  });

  it('reads tensors in whatever order they are listed, those without elements among them', () => {
    const empty = { dtype: 'F32', shape: [0], data_offsets: [8, 8] };
    const later = { ...f32, data_offsets: [8, 16] };
    const bytes = file({ b: later, a: f32, none: empty }, new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer));
    expect(valuesOf(accepted(bytes))).toEqual({
      a: { dims: [2], data: [1, 2] },
      none: { dims: [0], data: [] },
      b: { dims: [2], data: [3, 4] },
    });
    expect(accepted(file({})).layout).toMatchObject({ tensors: [], byteLength: 0 });
  });

  it('reads headers up to its limit', () => {
    const padded = (length: number) => file(JSON.stringify({ a: f32 }).padEnd(length), new Uint8Array(8));
    expect(accepted(padded(4 << 20)).layout.tensors).toHaveLength(1);
    expect(problem(padded((4 << 20) + 1))).toContain('at most 4194304 bytes');
    const deepest = { a: { ...f32, shape: [...Array(15).fill(1), 2] } };
    expect(accepted(file(deepest, new Uint8Array(8))).layout.tensors[0]!.dims).toHaveLength(16);
  });

  it('takes what is merely called like a part of another tensor for a tensor', () => {
    const names = ['a', 'a.scale', 'b.values', 'b.scale', 'c.indices', 'd.values'];
    const header = Object.fromEntries(names.map((name, i) => [name, { ...f32, data_offsets: [8 * i, 8 * i + 8] }]));
    expect(accepted(file(header, new Uint8Array(48))).layout.tensors.map(({ name }) => name)).toEqual(names);
  });

  it('takes a factor for all of a tensor in bytes, or one for each of its rows', () => {
    const bytes = (shape: number[], factors: number) => {
      const length = shape.reduce((product, size) => product * size, 1);
      const header = {
        a: { dtype: 'I8', shape, data_offsets: [0, length] },
        'a.scale': { dtype: 'F32', shape: [factors], data_offsets: [length, length + 4 * factors] },
      };
      return file(header, new Uint8Array(length + 4 * factors));
    };
    const scaleOf = (shape: number[], factors: number) => {
      const { tensors } = accepted(bytes(shape, factors)).layout;
      return [tensors.length, tensors[0]!.scale];
    };
    expect(scaleOf([3, 4], 1)).toEqual([1, { begin: 12, length: 1 }]);
    expect(scaleOf([3, 4], 3)).toEqual([1, { begin: 12, length: 3 }]);
    expect(scaleOf([], 1)).toEqual([1, { begin: 1, length: 1 }]);
    // They are written as they were read.
    const { layout, payload } = accepted(bytes([3, 4], 3));
    expect(accepted(writeSafetensors(layout, payload)).layout).toEqual(layout);
    expect(problem(bytes([3, 4], 4))).toContain('one for each row of [3,4], got 4');
    expect(problem(bytes([3, 4], 0))).toContain('got 0');
  });

  it('takes the factor of rows in bytes', () => {
    const header = {
      'a.indices': { dtype: 'I64', shape: [2], data_offsets: [0, 16] },
      'a.values': { dtype: 'I8', shape: [2, 3], data_offsets: [16, 22] },
      'a.scale': { dtype: 'F32', shape: [1], data_offsets: [22, 26] },
    };
    expect(accepted(file(header, new Uint8Array(26))).layout.tensors).toMatchObject([
      { name: 'a', dtype: 'I8', rows: { begin: 0, count: 2, dtype: 'I64' }, scale: { begin: 22, length: 1 } },
    ]);
  });

  it('reads from the middle of a buffer', () => {
    const bytes = written({ a: Float32Array.of(1, 2, 3) });
    const around = Buffer.concat([Buffer.alloc(3), bytes, Buffer.alloc(5)]);
    const read = accepted(new Uint8Array(around.buffer, around.byteOffset + 3, bytes.byteLength));
    expect(valuesOf(read)).toEqual({ a: { dims: [3], data: [1, 2, 3] } });
  });
});

describe('a header seen before', () => {
  it('gives the same layout object, also after others', () => {
    const reader = new SafetensorsReader();
    const [a, b] = [written({ a: Float32Array.of(1) }), written({ b: Float32Array.of(1, 2) })];
    const first = accepted(a, reader).layout;
    expect(accepted(Buffer.from(a), reader).layout).toBe(first);
    const other = accepted(b, reader).layout;
    expect(other).not.toBe(first);
    expect(accepted(Buffer.from(a), reader).layout).toBe(first);
    expect(accepted(Buffer.from(b), reader).layout).toBe(other);
  });

  it('is forgotten where those that are known grow large', () => {
    const reader = new SafetensorsReader();
    const long = (name: string) => written({ [name.repeat(1_500_000)]: Float32Array.of(1) });
    const [a, b, c] = [long('a'), long('b'), long('c')];
    const first = accepted(a, reader).layout;
    accepted(b, reader);
    expect(accepted(a, reader).layout).toBe(first);
    accepted(c, reader);
    expect(accepted(a, reader).layout).not.toBe(first);
    expect(accepted(a, reader).layout).toEqual(first);
  });

  it('is forgotten where those that are known grow many', () => {
    const reader = new SafetensorsReader();
    const layout = (i: number) => accepted(written({ [`w${i}`]: Float32Array.of(1) }), reader).layout;
    const first = layout(0);
    for (let i = 1; i < 64; i++) layout(i);
    expect(layout(0)).toBe(first);
    const last = layout(64);
    expect(layout(0)).not.toBe(first);
    expect(layout(64)).toBe(last);
  });

  it('is not taken for another of the same length', () => {
    const reader = new SafetensorsReader();
    expect(accepted(written({ a: Float32Array.of(1) }), reader).layout.tensors[0]!.name).toBe('a');
    expect(accepted(written({ b: Float32Array.of(1) }), reader).layout.tensors[0]!.name).toBe('b');
  });

  it('is not taken for one that it begins, or that begins it', () => {
    const reader = new SafetensorsReader();
    const json = JSON.stringify({ w12: f32 });
    const data = new Uint8Array(8);
    const nameIn = (header: string): string => accepted(file(header, data), reader).layout.tensors[0]!.name;
    const refusedIn = (header: string): boolean => typeof reader.read(file(header, data)) === 'function';
    expect(nameIn(json)).toBe('w12');
    expect(refusedIn(json.slice(0, -1))).toBe(true);
    expect(nameIn(json)).toBe('w12');
    expect(refusedIn(`${json}}`)).toBe(true);
    for (const name of ['w1', 'w12', 'w1', 'w']) expect(nameIn(JSON.stringify({ [name]: f32 }))).toBe(name);
  });

  it('does not change when its message is written over', () => {
    const reader = new SafetensorsReader();
    const bytes = written({ a: Float32Array.of(1) });
    accepted(bytes, reader);
    const other = written({ b: Float32Array.of(1) });
    other.copy(bytes);
    expect(accepted(other, reader).layout.tensors[0]!.name).toBe('b');
  });

  it('may be forgotten among many, and is read again', () => {
    const reader = new SafetensorsReader();
    for (let i = 0; i < 1000; i++) accepted(written({ [`w${i}`]: Float32Array.of(i) }), reader);
    expect(accepted(written({ w0: Float32Array.of(7) }), reader).layout.tensors[0]!.name).toBe('w0');
  });
});

describe('is refused in words', () => {
  it.each([
    ['an empty record', Buffer.alloc(0), 'expected a safetensors file, got 0 bytes'],
    ['a record of 7 bytes', Buffer.alloc(7), 'got 7 bytes'],
    ['another format', Buffer.from('{"a":[1,2,3]}'), 'a longer one, or another format'],
    ['a header above 4 MiB', Buffer.concat([Buffer.from([1, 0, 64, 0, 0, 0, 0, 0]), Buffer.alloc(16)]), 'at most 4194304 bytes'],
    ['a header of 2⁶³ bytes', Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 0, 0, 128])]), 'at most 4194304 bytes'],
    ['a cut header', file({ a: f32 }, new Uint8Array(8)).subarray(0, 20), '12 bytes behind its length'],
    ['text', file('not JSON'), 'in JSON, got "not JSON"'],
    ['an array', file([]), 'as a JSON object, got "[]"'],
    ['null', file('null'), 'as a JSON object, got "null"'],
    ['a tensor that is null', file({ a: null }), 'RXGRAD_WRONG_TYPE t/0@1: expected "a" as F32, F16, BF16, I8, got none'],
    ['another type', file({ a: { ...f32, dtype: 'F64' } }), 'expected "a" as F32, F16, BF16, I8, got "F64"'],
    ['a type that is an object', file({ a: { dtype: { toString: 1, valueOf: 1 } } }), 'as F32, F16, BF16, I8, got "..."'],
    ['a type nested deeply', file(`{"a":{"dtype":${deep}}}`), 'as F32, F16, BF16, I8, got "["..."]"'],
    ['a shape nested deeply', file(`{"a":{"dtype":"F32","shape":${deep}}}`), 'at most 16 sizes for "a", got "["..."]"'],
    ['no shape', file({ a: { dtype: 'F32' } }), 'at most 16 sizes for "a", got none'],
    ['17 sizes', file({ a: { ...f32, shape: Array(17).fill(1) } }), 'at most 16 sizes'],
    ['a negative size', file({ a: { ...f32, shape: [-2] } }), 'got "[-2]"'],
    ['a broken size', file({ a: { ...f32, shape: [1.5] } }), 'got "[1.5]"'],
    ['a size that is text', file({ a: { ...f32, shape: ['2'] } }), 'got "["2"]"'],
    ['no offsets', file({ a: { dtype: 'F32', shape: [2] } }), 'data_offsets [begin, end] for "a", got none'],
    ['one offset', file({ a: { ...f32, data_offsets: [8] } }), 'got "[8]"'],
    ['offsets unlike the shape', file({ a: { ...f32, data_offsets: [0, 4] } }), 'expected 8 bytes for "a" [2], got 4'],
    ['offsets in reverse', file({ a: { ...f32, data_offsets: [8, 0] } }), 'got -8'],
    ['sizes beyond all counting', file({ a: { ...f32, shape: Array(16).fill(2 ** 53 - 1) } }), 'bytes for "a"'],
    [
      'a gap',
      file({ a: { ...f32, data_offsets: [4, 12] } }, new Uint8Array(12)),
      'without gaps or overlaps: "a" at byte 0, got byte 4',
    ],
    ['an overlap', file({ a: f32, b: { ...f32, data_offsets: [4, 12] } }, new Uint8Array(12)), '"b" at byte 8, got byte 4'],
    ['missing data', file({ a: f32 }, new Uint8Array(7)), 'expected 8 bytes of tensor data, got 7'],
    ['surplus data', file({ a: f32 }, new Uint8Array(9)), 'expected 8 bytes of tensor data, got 9'],
    ['whole numbers that are no row numbers', file({ a: { ...f32, dtype: 'I32' } }), 'as F32, F16, BF16, I8, got I32'],
    ['row numbers without values', file({ 'a.indices': { ...f32, dtype: 'I32' } }), '"a.indices" beside values of the same name'],
    ['values in whole numbers', rowsFile({}, { dtype: 'I32' }), '"a.indices" beside values of the same name'],
    ['more values than rows', rowsFile({}, { shape: [1, 2] }), 'as many rows in "a.values" as in "a.indices", got [1,2] and [2]'],
    ['row numbers in two dimensions', rowsFile({ shape: [2, 1] }, {}), 'got [2] and [2,1]'],
    ['a tensor dense and as rows', file({ a: { ...f32, data_offsets: [16, 24] }, ...rowsOf({}, {}) }), '"a" once'],
    ['bytes without a factor', file({ a: { ...f32, dtype: 'I8', data_offsets: [0, 2] } }), '"a.scale" in F32 beside "a" in I8'],
    [
      'bytes with a factor in bytes',
      file({
        a: { dtype: 'I8', shape: [1], data_offsets: [0, 1] },
        'a.scale': { dtype: 'F16', shape: [1], data_offsets: [1, 3] },
      }),
      'beside "a" in I8, got F16',
    ],
    [
      'factors that are neither one nor one for each row',
      file({ a: { dtype: 'I8', shape: [4], data_offsets: [8, 12] }, 'a.scale': f32 }),
      'one factor in "a.scale", or one for each row of [4], got 2',
    ],
    ['what garbles a terminal', file('\u001b[2J\u0007'), 'got "?[2J?"'],
  ])('%s', (_, bytes, words) => {
    expect(problem(bytes)).toContain(words);
  });
});
