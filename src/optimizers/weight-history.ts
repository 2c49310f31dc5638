import type { Parameters } from '../params/parameters.ts';

/** Old weights of a parameter: all of them, or those of some rows, one after the other. */
export interface OldWeights {
  readonly address: number;
  readonly byteLength: number;
  readonly rows: Int32Array | null;
}

interface Entry {
  readonly version: number;
  /** By parameter: what the step from this version wrote over. */
  readonly parts: Map<number, OldWeights>;
}

/**
 * The weights of the last few versions, as what each step wrote over: a table of which few rows were touched costs those rows.
 */
export class WeightHistory {
  /** How many versions before the newest are kept. */
  versions = 1;
  readonly #params: Parameters;
  readonly #entries: Entry[] = [];
  /** For each parameter, room for all of it that is free again. */
  readonly #spare = new Map<number, number[]>();
  readonly #scratch = new Map<number, number>();

  constructor(params: Parameters) {
    this.#params = params;
  }

  /** The first version whose weights are known. */
  get oldest(): number {
    return this.#follows(this.#params.version) ? this.#entries[0]!.version : this.#params.version;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** Begins to keep what the step from a version writes over. Versions that do not lead there are forgotten. */
  begin(version: number): void {
    if (!this.#follows(version)) this.#forget(this.#entries.length);
    this.#entries.push({ version, parts: new Map() });
    this.#forget(Math.max(0, this.#entries.length - this.versions));
  }

  /** Room for all weights of a parameter, to be copied there before they are written over. */
  keepWhole(index: number): number {
    const byteLength = this.#byteLength(index);
    const address = this.#spare.get(index)?.pop() ?? this.#params.arena.allocate(byteLength);
    this.#entries.at(-1)!.parts.set(index, { address, byteLength, rows: null });
    return address;
  }

  /** Keeps some rows of a table whose weights lie at an address. */
  keepRows(index: number, rows: Int32Array, weights: number): void {
    const { arena } = this.#params;
    const stride = this.#stride(index);
    const byteLength = rows.length * stride;
    const address = arena.allocate(byteLength);
    for (const [i, row] of rows.entries()) copyRow(arena.bytes, weights + row * stride, address + i * stride, stride);
    this.#entries.at(-1)!.parts.set(index, { address, byteLength, rows: rows.slice() });
  }

  /**
   * The address of a parameter's weights in a version that is known, laid out as the parameter; where `rows` are asked for,
   * those alone are right. `newest` is the address of the newest ones.
   */
  weightsAt(index: number, version: number, rows: Int32Array | null, newest: number): number {
    const since = this.#entries.filter((entry) => entry.version >= version).flatMap(({ parts }) => parts.get(index) ?? []);
    const [first] = since;
    if (!first) return newest;
    if (!first.rows) return first.address;
    const { arena } = this.#params;
    const scratch = this.#scratchOf(index);
    const stride = this.#stride(index);
    const wanted = rows && new Set(rows);
    const copyAll = (from: number): void => {
      if (!rows) copyRow(arena.bytes, from, scratch, this.#byteLength(index));
      else for (const row of rows) copyRow(arena.bytes, from + row * stride, scratch + row * stride, stride);
    };
    copyAll(newest);
    // Backwards in time: what a step wrote over is what was there before it.
    for (const part of since.toReversed()) {
      if (!part.rows) copyAll(part.address);
      for (const [i, row] of part.rows?.entries() ?? []) {
        if (!wanted || wanted.has(row)) copyRow(arena.bytes, part.address + i * stride, scratch + row * stride, stride);
      }
    }
    return scratch;
  }

  /** Makes entries for versions that were kept, in rising order. */
  restore(versions: readonly number[]): void {
    for (const version of versions) this.#entries.push({ version, parts: new Map() });
  }

  /** Puts back what such an entry had. */
  restorePart(version: number, index: number, rows: Int32Array | null, data: Float32Array): void {
    const { arena } = this.#params;
    const address = arena.allocate(data.byteLength);
    arena.floats(address, data.length).set(data);
    const entry = this.#entries.find((entry) => entry.version === version);
    entry?.parts.set(index, { address, byteLength: data.byteLength, rows });
  }

  /** Gives the memory back. */
  dispose(): void {
    const { arena } = this.#params;
    this.#forget(this.#entries.length);
    for (const [index, pieces] of this.#spare) for (const address of pieces) arena.release(address, this.#byteLength(index));
    for (const [index, address] of this.#scratch) arena.release(address, this.#byteLength(index));
  }

  /** Whether the entries lead up to a version. */
  #follows(version: number): boolean {
    return this.#entries.at(-1)?.version === version - 1;
  }

  #forget(count: number): void {
    for (const { parts } of this.#entries.splice(0, count)) {
      for (const [index, { address, byteLength, rows }] of parts) {
        if (rows) this.#params.arena.release(address, byteLength);
        else this.#spareOf(index).push(address);
      }
    }
  }

  #spareOf(index: number): number[] {
    const known = this.#spare.get(index) ?? [];
    this.#spare.set(index, known);
    return known;
  }

  #scratchOf(index: number): number {
    const address = this.#scratch.get(index) ?? this.#params.arena.allocate(this.#byteLength(index));
    this.#scratch.set(index, address);
    return address;
  }

  #byteLength(index: number): number {
    return 4 * this.#params.places[index]!.length;
  }

  /** Bytes of a row. */
  #stride(index: number): number {
    return this.#byteLength(index) / this.#params.places[index]!.dims[0]!;
  }
}

function copyRow(bytes: Uint8Array, from: number, to: number, byteLength: number): void {
  bytes.copyWithin(to, from, from + byteLength);
}
