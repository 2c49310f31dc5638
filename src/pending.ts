import { RxgradError } from './errors.ts';
import { Arena } from './kernels/arena.ts';
import { copyBytes, type Kernels, sumOfSquares } from './kernels/kernels.ts';
import { type PlacedTensor, type TensorLayout, takeIn } from './payload.ts';
import type { PerParameter } from './setting.ts';

/** Weights by name, as an operation may need them. */
export interface WeightsByName {
  has(name: string): boolean;
  get(name: string): { readonly data: Float32Array };
}

/** What a stage asks to be done to a batch's gradients. */
export type Operation =
  | { readonly op: 'clipByGlobalNorm'; readonly maxNorm: PerParameter }
  | { readonly op: 'clipByValue'; readonly limit: PerParameter }
  | { readonly op: 'addDecayedWeights'; readonly decay: PerParameter; readonly params: WeightsByName | null };

/** Operations in reverse order of asking. Stages share the links, so a chain can be recognised by identity. */
export interface Pending {
  readonly operation: Operation;
  readonly previous: Pending | null;
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
  weightsAt: (tensor: PlacedTensor) => number | null,
): boolean {
  switch (operation.op) {
    case 'clipByGlobalNorm': {
      const norm = Math.sqrt(sumOfSquares(kernels, gradients, layout.elements));
      let clipped = false;
      forEachPart(operation.maxNorm, layout, (at, length, maxNorm) => {
        const factor = clipFactor(norm, maxNorm);
        if (factor !== 1) kernels.scale(gradients + at, length, factor);
        clipped ||= factor !== 1;
      });
      return clipped;
    }
    case 'clipByValue':
      forEachPart(operation.limit, layout, (at, length, limit) => kernels.clip(gradients + at, length, limit));
      return false;
    case 'addDecayedWeights':
      for (const tensor of layout.tensors) {
        const decay = operation.decay.of(tensor.name);
        const weights = decay === 0 ? null : weightsAt(tensor);
        if (weights !== null) kernels.addDecay(gradients + tensor.at, weights, tensor.length, decay);
      }
      return false;
  }
}

/** Goes over all elements at once where one number is for all, else tensor by tensor. */
function forEachPart(
  setting: PerParameter,
  layout: TensorLayout,
  run: (at: number, length: number, value: number) => void,
): void {
  if (setting.uniform !== null) run(0, layout.elements, setting.uniform);
  else for (const { name, at, length } of layout.tensors) run(at, length, setting.of(name));
}

let workspace: Arena | undefined;

/**
 * Does the pending operations on a copy of the payload and returns the copy, cut as the payload is. The same kernels as in
 * the scan, so the same bits.
 */
export function materialise(layout: TensorLayout, payload: Uint8Array, pending: Pending | null): Float32Array {
  const result = new Float32Array(layout.elements);
  const bytes = new Uint8Array(result.buffer);
  if (pending || !layout.plain)
    inWorkspace(layout, payload, pending, (arena, at) => copyBytes(arena.bytes, bytes, 0, at, at + bytes.byteLength));
  else copyBytes(payload, bytes, 0);
  return result;
}

/** Global norm behind the pending operations; undefined where they need weights that nobody gave. */
export function normOf(layout: TensorLayout, payload: Uint8Array, pending: Pending | null): number | undefined {
  const lacksWeights = operationsOf(pending).some((operation) => operation.op === 'addDecayedWeights' && !operation.params);
  if (lacksWeights) return undefined;
  return inWorkspace(layout, payload, pending, ({ kernels }, at) => Math.sqrt(sumOfSquares(kernels, at, layout.elements)));
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
  const room = 2 ** Math.ceil(Math.log2(Math.max(1, layout.roomBytes)));
  const gradients = arena.allocate(room);
  const weights = arena.allocate(room);
  try {
    const finite = Number.isFinite(takeIn(arena, gradients, layout, payload));
    for (const operation of finite ? operationsOf(pending) : []) {
      runOperation(arena.kernels, operation, gradients, layout, (tensor) =>
        copyWeights(operation, tensor, arena, weights + tensor.at),
      );
    }
    return use(arena, gradients);
  } finally {
    arena.release(gradients, room);
    arena.release(weights, room);
  }
}

function copyWeights(operation: Operation, { name, length }: PlacedTensor, arena: Arena, to: number): number | null {
  if (operation.op !== 'addDecayedWeights') return null;
  const { params } = operation;
  if (!params) throw new RxgradError('weightsNeeded', { decay: operation.decay.uniform ?? '…' });
  if (!params.has(name)) return null;
  const { data } = params.get(name);
  if (data.length !== length) return null;
  copyBytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), arena.bytes, to);
  return to;
}
