import { RxgradError } from './errors.ts';
import { Arena } from './kernels/arena.ts';
import { copyAndSquare, copyBytes, type Kernels, sumOfSquares } from './kernels/kernels.ts';

/** Weights by name, as an operation may need them. */
export interface WeightsByName {
  has(name: string): boolean;
  get(name: string): { readonly data: Float32Array };
}

/** What a stage asks to be done to a batch's gradients. */
export type Operation =
  | { readonly op: 'clipByGlobalNorm'; readonly maxNorm: number }
  | { readonly op: 'clipByValue'; readonly limit: number }
  | { readonly op: 'addDecayedWeights'; readonly decay: number; readonly params: WeightsByName | null };

/** Operations in reverse order of asking. Stages share the links, so a chain can be recognised by identity. */
export interface Pending {
  readonly operation: Operation;
  readonly previous: Pending | null;
}

/** One tensor of a batch: `length` float32 elements at byte `begin` of the payload. `dims` is null where nobody gave them. */
export interface TensorSpec {
  readonly name: string;
  readonly dims: readonly number[] | null;
  readonly dtype: 'F32';
  readonly begin: number;
  readonly length: number;
}

/** How a payload is cut into tensors. Batches of the same form share one object, so work on it can be kept by identity. */
export interface TensorLayout {
  readonly tensors: readonly TensorSpec[];
  readonly byteLength: number;
}

/** The operations in the order in which they were asked for. */
export function operationsOf(pending: Pending | null): Operation[] {
  const operations: Operation[] = [];
  for (let link = pending; link; link = link.previous) operations.push(link.operation);
  return operations.reverse();
}

/** The factor that clipping by global norm applies (optax: unchanged below the limit, else g / norm · limit), in float32. */
export function clipFactor(norm: number, maxNorm: number): number {
  return norm < maxNorm ? 1 : Math.fround(maxNorm / norm);
}

/**
 * Does one operation on gradients that lie at `gradients` of the kernels' memory, laid out as `layout` says.
 * `weightsAt` gives the address of a tensor's weights in the same memory, or null where there are none that fit. Tells whether
 * a global norm was clipped.
 */
export function runOperation(
  kernels: Kernels,
  operation: Operation,
  gradients: number,
  layout: TensorLayout,
  weightsAt: (tensor: TensorSpec) => number | null,
): boolean {
  const length = layout.byteLength >> 2;
  switch (operation.op) {
    case 'clipByGlobalNorm': {
      const factor = clipFactor(Math.sqrt(sumOfSquares(kernels, gradients, length)), operation.maxNorm);
      if (factor !== 1) kernels.scale(gradients, length, factor);
      return factor !== 1;
    }
    case 'clipByValue':
      kernels.clip(gradients, length, operation.limit);
      return false;
    case 'addDecayedWeights':
      if (operation.decay === 0) return false;
      for (const tensor of layout.tensors) {
        const weights = weightsAt(tensor);
        if (weights !== null) kernels.addDecay(gradients + tensor.begin, weights, tensor.length, operation.decay);
      }
      return false;
  }
}

let workspace: Arena | undefined;

/**
 * Does the pending operations on a copy of the payload and returns the copy, cut as the payload is. The same kernels as in
 * the scan, so the same bits.
 */
export function materialise(layout: TensorLayout, payload: Uint8Array, pending: Pending | null): Float32Array {
  const result = new Float32Array(layout.byteLength >> 2);
  const bytes = new Uint8Array(result.buffer);
  if (pending) inWorkspace(layout, payload, pending, (arena, at) => copyBytes(arena.bytes, bytes, 0, at, at + layout.byteLength));
  else copyBytes(payload, bytes, 0);
  return result;
}

/** Global norm behind the pending operations; undefined where they need weights that nobody gave. */
export function normOf(layout: TensorLayout, payload: Uint8Array, pending: Pending | null): number | undefined {
  const lacksWeights = operationsOf(pending).some((operation) => operation.op === 'addDecayedWeights' && !operation.params);
  if (lacksWeights) return undefined;
  return inWorkspace(layout, payload, pending, ({ kernels }, at) => Math.sqrt(sumOfSquares(kernels, at, layout.byteLength >> 2)));
}

/**
 * Lays a payload out in memory of its own, does the pending operations there, and lends the place. A batch that the scan
 * is going to reject keeps what it is rejected for: one that is not finite stays as it came, and decay leaves out tensors
 * that do not fit the parameters.
 */
function inWorkspace<T>(
  layout: TensorLayout,
  payload: Uint8Array,
  pending: Pending | null,
  use: (arena: Arena, gradients: number) => T,
): T {
  workspace ??= new Arena();
  const arena = workspace;
  // Powers of two, so that batches of many sizes share few pieces.
  const room = 2 ** Math.ceil(Math.log2(Math.max(1, layout.byteLength)));
  const gradients = arena.allocate(room);
  const weights = arena.allocate(room);
  try {
    const finite = Number.isFinite(copyAndSquare(arena.kernels, arena.bytes, gradients, payload));
    for (const operation of finite ? operationsOf(pending) : []) {
      runOperation(arena.kernels, operation, gradients, layout, (tensor) =>
        copyWeights(operation, tensor, arena, weights + tensor.begin),
      );
    }
    return use(arena, gradients);
  } finally {
    arena.release(gradients, room);
    arena.release(weights, room);
  }
}

function copyWeights(operation: Operation, { name, length }: TensorSpec, arena: Arena, to: number): number | null {
  if (operation.op !== 'addDecayedWeights') return null;
  const { params } = operation;
  if (!params) throw new RxgradError('weightsNeeded', { decay: operation.decay });
  if (!params.has(name)) return null;
  const { data } = params.get(name);
  if (data.length !== length) return null;
  copyBytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), arena.bytes, to);
  return to;
}
