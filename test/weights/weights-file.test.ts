import { describe, expect, it } from 'vitest';
import { Arena } from '../../src/kernels/arena.ts';
import type { Piece } from '../../src/weights/cut.ts';
import { copyPieces, readWeightsFile, rowNumbers, type WeightsFile, writePiece } from '../../src/weights/weights-file.ts';

const arena = new Arena();

function place(name: string, dims: number[], offset = 0) {
  return { name, dims, offset, length: dims.reduce((size, dim) => size * dim, 1) };
}

/** Weights of the arena that count from a number on. */
function counting(length: number, from = 0): number {
  const address = arena.allocate(4 * length);
  arena.floats(address, length).set(Float32Array.from({ length }, (_, i) => from + i));
  return address;
}

function read(file: Uint8Array): WeightsFile {
  const read = readWeightsFile(file);
  if (typeof read === 'function') throw read('a test');
  return read;
}

/** What a file's pieces write over zeros, `base` elements into them. */
function written(file: Uint8Array, length: number, base = 0): number[] {
  const { pieces, payload } = read(file);
  const address = arena.allocate(4 * length);
  for (const piece of pieces) writePiece(arena, address, base, piece, payload);
  return [...arena.floats(address, length)];
}

describe('a file of weights', () => {
  it.each(['F32', 'F16', 'BF16'] as const)(
    'has the elements of ranges and rows as they were when it was copied, in %s',
    (type) => {
      const table = place('t', [5, 3], 64);
      const weights = counting(16 + 15, -16);
      const pieces: Piece[] = [
        { place: table, from: 0, length: 6, rows: Int32Array.of(1, 4) },
        { place: place('b', [4]), from: 0, length: 4, rows: null },
      ];
      const encode = copyPieces(arena, weights, pieces, type, { loss: 2 });
      arena.floats(weights, 31).fill(99);
      const file = read(encode());
      expect(file.step).toEqual({ loss: 2 });
      expect(file.pieces.map(({ name, whole, from, dtype }) => [name, whole, from, dtype])).toEqual([
        ['t', [0, 3], 0, type],
        ['b', [4], 0, type],
      ]);
      const [rows, bias] = file.pieces;
      expect([...rowNumbers(rows!, file.payload)]).toEqual([1, 4]);
      const address = arena.allocate(4 * 15);
      writePiece(arena, address, 0, rows!, file.payload);
      expect([...arena.floats(address, 15)]).toEqual([0, 0, 0, 3, 4, 5, 0, 0, 0, 0, 0, 0, 12, 13, 14]);
      writePiece(arena, address, 0, bias!, file.payload);
      expect([...arena.floats(address, 4)]).toEqual([-16, -15, -14, -13]);
    },
  );

  it('writes ranges where they lie, into what its parameter is a part of', () => {
    const weights = counting(10);
    const range: Piece = { place: place('w', [2, 5]), from: 3, length: 4, rows: null };
    const file = copyPieces(arena, weights, [range], 'F32', null)();
    expect(read(file)).toMatchObject({ step: {}, pieces: [{ whole: [2, 5], from: 3, length: 4 }] });
    expect(written(file, 12, 2)).toEqual([0, 0, 0, 0, 0, 3, 4, 5, 6, 0, 0, 0]);
    const rows: Piece = { place: place('w', [2, 5]), from: 0, length: 5, rows: Int32Array.of(1) };
    expect(written(copyPieces(arena, weights, [rows], 'F32', null)(), 12, 1)).toEqual([0, 0, 0, 0, 0, 0, 5, 6, 7, 8, 9, 0]);
  });

  it.each(['F16', 'BF16'] as const)('of %s is decoded whole, however long it is', (type) => {
    const length = 20_001;
    const address = arena.allocate(4 * length);
    arena.floats(address, length).set(Float32Array.from({ length }, (_, i) => i % 128));
    const file = copyPieces(arena, address, [{ place: place('w', [length]), from: 0, length, rows: null }], type, null)();
    expect(written(file, length)).toEqual(Array.from({ length }, (_, i) => i % 128));
  });

  it('may have row numbers of 64 bits, of which those that no table has are −1', () => {
    const numbers = [0n, 7n, 2n ** 31n - 1n, 2n ** 31n, -1n, 2n ** 40n];
    const payload = Buffer.alloc(4 + 8 * numbers.length);
    for (const [i, number] of numbers.entries()) payload.writeBigInt64LE(number, 4 + 8 * i);
    const rows = { begin: 4, count: numbers.length, dtype: 'I64' } as const;
    expect([...rowNumbers({ rows } as never, payload)]).toEqual([0, 7, 2 ** 31 - 1, -1, -1, -1]);
  });
});

/** A file with any header, and so many bytes of data. */
function file(entries: object, bytes: number, announced?: number): Uint8Array {
  const json = Buffer.from(JSON.stringify(entries));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(announced ?? json.byteLength));
  return Buffer.concat([length, json, Buffer.alloc(bytes)]);
}

const tensor = { w: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } };
const cutTo = (cuts: unknown) =>
  file({ ...tensor, __metadata__: { 'rxgrad.cuts': typeof cuts === 'string' ? cuts : JSON.stringify(cuts) } }, 8);

describe('a file is refused in words:', () => {
  const refused = (bytes: Uint8Array): string => {
    const read = readWeightsFile(bytes);
    return typeof read === 'function' ? read('here').message : 'taken';
  };

  it.each<[string, Uint8Array, RegExp]>([
    ['7 bytes', new Uint8Array(7), /a safetensors file, its header of at most 4194304 bytes, got 7 bytes of others/],
    ['a header that is longer than the file', file(tensor, 0, 200), /got \d+ bytes of others/],
    ['a header that is longer than any', Buffer.concat([file(tensor, 8, (4 << 20) + 1), Buffer.alloc(5 << 20)]), /of others/],
    ['fewer bytes than its tensors have', file(tensor, 7), /expected 8 bytes of tensor data, got 7/],
    ['more bytes than its tensors have', file(tensor, 9), /expected 8 bytes of tensor data, got 9/],
    ['a range of no dims', cutTo({ w: { from: 0 } }), /a range of "w" in rxgrad.cuts/],
    ['a range of dims that are too many', cutTo({ w: { dims: Array(17).fill(2), from: 0 } }), /a range of "w"/],
    ['a range from nowhere', cutTo({ w: { dims: [9] } }), /a range of "w"/],
    ['a range from before the first', cutTo({ w: { dims: [9], from: -1 } }), /a range of "w"/],
    [
      'a range beyond the last',
      cutTo({ w: { dims: [9], from: 8 } }),
      /a range of "w" in rxgrad.cuts, got "{"w":{"dims":\[9\],"from":8}}"$/,
    ],
    ['a range that is null', cutTo({ w: null }), /a range of "w"/],
  ])('%s', (_, bytes, message) => {
    expect(refused(bytes)).toMatch(/^here: /);
    expect(refused(bytes)).toMatch(message);
  });

  it.each([
    ['a range up to the last', cutTo({ w: { dims: [9], from: 7 } })],
    ['as many dims as there may be', cutTo({ w: { dims: [2, ...Array(15).fill(1)], from: 0 } })],
    ['cuts that are no JSON', cutTo('{')],
    ['cuts that are no object', cutTo('5')],
    ['cuts of a name that every object has', cutTo({})],
    ['a name that every object has', file({ constructor: tensor.w }, 8)],
    ['metadata that say nothing of it', file({ ...tensor, __metadata__: { more: 'x' } }, 8)],
  ])('%s is none of that', (_, bytes) => {
    expect(refused(bytes)).toBe('taken');
  });
});
