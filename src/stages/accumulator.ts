import { type RejectionReason, RxgradError } from '../errors.ts';
import { type Delivery, GradientBatch, type GradientFacts, placeOf } from '../events.ts';
import type { Arena } from '../kernels/arena.ts';
import { type GradientInput, pack } from '../pack.ts';
import { type PlacedTensor, refuseNorm, refuseNotFinite, widthOf } from '../payload.ts';
import { inWorkspace, type Pending, rowNumbers } from '../pending.ts';

/** Σ weight · gradient of one dense parameter, in an arena; and Σ weight. */
interface Sum {
  readonly dims: readonly number[] | null;
  readonly arena: Arena;
  readonly address: number;
  readonly length: number;
  weight: number;
}

/** The touched rows of one table, as they came, already weighted; and Σ weight. */
interface Rows {
  /** Elements of a row; 0 until there was one. */
  width: number;
  /** The dims of a row, where they are known. */
  tail: readonly number[] | null;
  readonly parts: { readonly indices: Int32Array; readonly values: Float32Array }[];
  weight: number;
}

/** What row numbers may be at most: 32 bits, with a sign. */
const MOST_ROW = 2 ** 31 - 1;

/** Adds up gradient batches, each weighted by its size, and takes their mean: float32 in the order in which they came. */
export class Accumulator {
  readonly #sums = new Map<string, Sum>();
  readonly #rows = new Map<string, Rows>();

  /** Why a batch cannot be added to those that were: a parameter has another form in it. */
  misfit({ message: { layout, delivery } }: GradientBatch): RxgradError<RejectionReason> | null {
    for (const tensor of layout.tensors) {
      const problem = this.#misfit(tensor);
      if (problem) return new RxgradError('wrongShape', { where: placeOf(delivery), parameter: tensor.name, ...problem });
    }
    return null;
  }

  /** Adds a batch that fits, or tells why it cannot be; then nothing was added. */
  add({ message, pending }: GradientBatch): RxgradError<RejectionReason> | null {
    const { layout, facts, delivery } = message;
    const where = placeOf(delivery);
    const { batchSize: weight = 1 } = facts;
    if (!(weight > 0 && weight < Number.POSITIVE_INFINITY))
      return new RxgradError('undecodable', { where, expected: 'a batch size above 0', got: String(weight) });
    return inWorkspace(message, pending, (arena, at, taken) => {
      const refusal = refuseNotFinite(arena, at, layout, taken) ?? refuseNorm(facts.norm, layout, taken);
      if (refusal) return refusal(where);
      const below = layout.tensors.findIndex((_, index) => (taken.rows?.[index]?.least ?? 0) < 0);
      if (below !== -1) {
        const { name: parameter } = layout.tensors[below]!;
        return new RxgradError('rowOutOfRange', { where, parameter, expected: MOST_ROW, got: taken.rows![below]!.least });
      }
      layout.tensors.forEach((tensor, index) => {
        const indices = rowNumbers(arena, at, tensor, taken, index);
        if (indices) this.#addRows(arena, at + tensor.at, tensor, indices.slice(), weight);
        else this.#addDense(arena, at + tensor.at, tensor, weight);
      });
      return null;
    });
  }

  /** The mean of what was added, as a batch. `pending` is what is still to be done to it. */
  mean(facts: GradientFacts, delivery: Delivery | null, pending: Pending | null): GradientBatch {
    const gradients: Record<string, GradientInput> = {};
    for (const [name, { dims, arena, address, length, weight }] of this.#sums) {
      arena.kernels.scale(address, length, 1 / weight);
      const data = arena.floats(address, length).slice();
      gradients[name] = dims ? { dims, data } : data;
    }
    for (const [name, rows] of this.#rows) gradients[name] = joined(rows);
    const { layout, payload } = pack(gradients, () => null);
    return new GradientBatch({ layout, payload, facts, delivery }, pending);
  }

  /** Forgets what was added, and gives the memory back. */
  clear(): void {
    for (const { arena, address, length } of this.#sums.values()) arena.release(address, 4 * length);
    this.#sums.clear();
    this.#rows.clear();
  }

  #misfit(tensor: PlacedTensor): { expected: string; got: string } | null {
    const sum = this.#sums.get(tensor.name);
    const rows = this.#rows.get(tensor.name);
    const got = `${tensor.rows ? 'rows of ' : ''}${tensor.rows ? widthOf(tensor) : (tensor.dims ?? tensor.length)}`;
    const { length, dims } = tensor;
    if (sum && (tensor.rows || length !== sum.length || !fit(dims, sum.dims)))
      return { expected: String(sum.dims ?? sum.length), got };
    // No rows at all fit every table.
    if (!rows || tensor.rows?.count === 0 || (tensor.rows && rows.width === 0)) return null;
    const fits = tensor.rows && widthOf(tensor) === rows.width && fit(dims?.slice(1), rows.tail);
    return fits ? null : { expected: `rows of ${rows.tail ?? rows.width}`, got };
  }

  #addDense(arena: Arena, from: number, { name, dims, length }: PlacedTensor, weight: number): void {
    let sum = this.#sums.get(name);
    if (!sum) {
      sum = { dims, arena, address: arena.allocate(4 * length), length, weight: 0 };
      this.#sums.set(name, sum);
    }
    arena.kernels.addScaled(sum.address, from, length, weight);
    sum.weight += weight;
  }

  #addRows(arena: Arena, from: number, tensor: PlacedTensor, indices: Int32Array, weight: number): void {
    const width = widthOf(tensor);
    arena.kernels.scale(from, indices.length * width, weight);
    const rows: Rows = this.#rows.get(tensor.name) ?? { width: 0, tail: null, parts: [], weight: 0 };
    if (indices.length > 0) {
      rows.width = width;
      rows.tail ??= tensor.dims?.slice(1) ?? null;
    }
    rows.parts.push({ indices, values: arena.floats(from, indices.length * width).slice() });
    rows.weight += weight;
    this.#rows.set(tensor.name, rows);
  }
}

/** Whether dims are the same, as far as they are known. */
function fit(a: readonly number[] | null | undefined, b: readonly number[] | null | undefined): boolean {
  return !a || !b || String(a) === String(b);
}

/** All rows one after the other, divided by the weights: who takes them in adds up those with the same number. */
function joined({ width, tail, parts, weight }: Rows): GradientInput {
  const indices = parts.flatMap((part) => [...part.indices]);
  const values = new Float32Array(indices.length * width);
  let at = 0;
  for (const part of parts) {
    for (const value of part.values) values[at++] = value / weight;
  }
  return tail ? { indices, values, dims: [indices.length, ...tail] } : { indices, values };
}
