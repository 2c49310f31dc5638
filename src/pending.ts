import { RxgradError } from './errors.ts';
import { Arena } from './kernels/arena.ts';
import { copyBytes, type Kernels, sumOfSquares } from './kernels/kernels.ts';
import { type PlacedTensor, refuseNorm, type TakenIn, type TensorLayout, takeIn, widthOf } from './payload.ts';
import type { PerParameter } from './setting.ts';
import type { ParsedPolicy } from './staleness.ts';

/** Weights by name, as an operation may need them. */
export interface WeightsByName {
  /** False while a step of these weights is under way, or waits. */
  readonly settled?: boolean;
  has(name: string): boolean;
  get(name: string): { readonly data: Float32Array };
}

/** A payload, how it is cut, and the norm of the gradient that it is a part of, where its producer tells it. */
export interface Numbers {
  readonly layout: TensorLayout;
  readonly payload: Uint8Array;
  readonly facts: { readonly norm?: number | undefined };
}

/** Notes that a batch was merged from up to `size`, and what had been asked for until then: it changes nothing any more. */
export interface Accumulated {
  readonly op: 'accumulate';
  readonly size: number;
  readonly applyAtEnd: boolean;
  readonly asked: readonly Operation[];
}

/** What a stage asks to be done to a batch's gradients. */
export type Operation =
  | { readonly op: 'staleness'; readonly policy: ParsedPolicy }
  | Accumulated
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
 * `weightsAt` gives the address of a tensor's weights in the same memory (of touched rows: one after the other), or null where
 * there are none that fit. `norm` is the global norm as it is, where it is known. Tells whether that was clipped.
 */
export function runOperation(
  kernels: Kernels,
  operation: Operation,
  gradients: number,
  layout: TensorLayout,
  { rows }: TakenIn,
  known: number | undefined,
  weightsAt: (tensor: PlacedTensor, index: number) => number | null,
): boolean {
  switch (operation.op) {
    case 'staleness':
      assertReadable(operation);
      return false;
    case 'accumulate':
      return false;
    case 'clipByGlobalNorm': {
      const norm = known ?? Math.sqrt(sumOfSquares(kernels, gradients, layout.elements));
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
      layout.tensors.forEach((tensor, index) => {
        const decay = operation.decay.of(tensor.name);
        const weights = decay === 0 ? null : weightsAt(tensor, index);
        const taken = rows?.[index];
        const length = taken ? taken.count * widthOf(tensor) : tensor.length;
        if (weights !== null) kernels.addScaled(gradients + tensor.at, weights, length, decay);
      });
      return false;
  }
}

/** Whether an operation may change gradients. */
function changes(operation: Operation): boolean {
  return operation.op === 'staleness' ? operation.policy.type !== 'drop' : operation.op !== 'accumulate';
}

/** Whether gradients may be others once operations are done. */
export function changesGradients(pending: Pending | null): boolean {
  return operationsOf(pending).some(changes);
}

/** What goes by the global norm after something changed the gradients, so that no shard of them can know it; or undefined. */
export function clipOfChanged(operations: readonly Operation[]): Operation | undefined {
  const first = operations.findIndex(changes);
  return operations.find(({ op }, i) => op === 'clipByGlobalNorm' && i > first);
}

/** Whether an operation can be done before the scan: with the weights at hand, and where no other waits to change them. */
function isReadable(operation: Operation): boolean {
  if (operation.op === 'staleness') return operation.policy.type === 'drop';
  return operation.op !== 'addDecayedWeights' || (operation.params !== null && operation.params.settled !== false);
}

function assertReadable(operation: Operation): void {
  if (isReadable(operation)) return;
  if (operation.op === 'staleness') {
    const stage = `staleness({ type: '${operation.policy.type}' })`;
    throw new RxgradError('weightsNeeded', { stage, advice: 'read them, or merge them, in front of it' });
  }
  const { decay, params } = operation as Operation & { op: 'addDecayedWeights' };
  const stage = `addDecayedWeights(${decay.uniform ?? '…'}`;
  if (!params) throw new RxgradError('weightsNeeded', { stage: `${stage})`, advice: `use ${stage}, params)` });
  const advice = 'leave them to the scan, or let it step in place (threads: 0)';
  throw new RxgradError('stepUnderWay', { what: `gradients behind ${stage}) to be read`, advice });
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

const afterwards = new WeakMap<Pending, Pending | null>();

/** What is still to be done to gradients that were read: stale ones are still dropped, and merged ones stay so. */
export function afterReading(pending: Pending | null): Pending | null {
  if (!pending) return null;
  let rest = afterwards.get(pending);
  if (rest === undefined) {
    const left = operationsOf(pending).filter(({ op }) => op === 'staleness' || op === 'accumulate');
    rest = left.reduce<Pending | null>((previous, operation) => ({ operation, previous }), null);
    afterwards.set(pending, rest);
  }
  return rest;
}

let workspace: Arena | undefined;

/** A batch's numbers, laid out as its tensors are placed. */
export interface Materialised {
  readonly elements: Float32Array;
  /** For each tensor its row numbers, or null where it is dense. */
  readonly rows: readonly (Int32Array | null)[];
}

/**
 * Takes the payload in and does the pending operations, and returns copies. The same kernels as in the scan, so the same bits.
 */
export function materialise(numbers: Numbers, pending: Pending | null): Materialised {
  const { layout, payload } = numbers;
  const elements = new Float32Array(layout.elements);
  const bytes = new Uint8Array(elements.buffer);
  if (!pending && layout.plain) {
    copyBytes(payload, bytes, 0);
    return { elements, rows: layout.tensors.map(() => null) };
  }
  return inWorkspace(numbers, pending, (arena, at, taken) => {
    copyBytes(arena.bytes, bytes, 0, at, at + bytes.byteLength);
    const rows = layout.tensors.map((tensor, index) => rowNumbers(arena, at, tensor, taken, index)?.slice() ?? null);
    return { elements, rows };
  });
}

/** Global norm behind the pending operations; undefined where only the scan can do them. */
export function normOf(numbers: Numbers, pending: Pending | null): number | undefined {
  const operations = operationsOf(pending);
  if (!operations.every(isReadable) || unknownNorm(numbers, operations)) return undefined;
  const { elements } = numbers.layout;
  return inWorkspace(numbers, pending, ({ kernels }, at) => Math.sqrt(sumOfSquares(kernels, at, elements)));
}

/** What needs a norm that nobody knows before the scan, since the gradients may be a shard; or undefined. */
function unknownNorm({ facts }: Numbers, operations: readonly Operation[]): Operation | undefined {
  return facts.norm === undefined ? undefined : clipOfChanged(operations);
}

/**
 * Lays a payload out in memory of its own, does the pending operations there, and lends the place. A batch that the scan
 * is going to reject keeps what it is rejected for: one that is not finite stays as it came, decay leaves out tensors that do
 * not fit the parameters, and a norm that is wrong changes nothing.
 */
export function inWorkspace<T>(
  numbers: Numbers,
  pending: Pending | null,
  use: (arena: Arena, gradients: number, taken: TakenIn) => T,
): T {
  const { layout, payload, facts } = numbers;
  workspace ??= new Arena();
  const arena = workspace;
  // Powers of two, so that batches of many sizes share few pieces.
  const room = 2 ** Math.ceil(Math.log2(Math.max(1, layout.roomBytes)));
  const gradients = arena.allocate(room);
  const weights = arena.allocate(room);
  try {
    const taken = takeIn(arena, gradients, layout, payload);
    const operations = Number.isFinite(taken.sumOfSquares) ? operationsOf(pending) : [];
    const norm = refuseNorm(facts.norm, layout, taken) ? undefined : facts.norm;
    const unreadable = unknownNorm(numbers, operations);
    for (const operation of operations) {
      if (operation === unreadable) {
        const advice = 'it goes by the norm of a whole that they may be a shard of, so put it in front of what changes them';
        throw new RxgradError('weightsNeeded', { stage: operation.op, advice });
      }
      runOperation(arena.kernels, operation, gradients, layout, taken, norm, (tensor, index) =>
        copyWeights(operation, tensor, rowNumbers(arena, gradients, tensor, taken, index), arena, weights + tensor.at),
      );
    }
    return use(arena, gradients, taken);
  } finally {
    arena.release(gradients, room);
    arena.release(weights, room);
  }
}

/** The row numbers of a tensor that was taken in at `gradients`: a view, or null where it is dense. */
export function rowNumbers(
  { memory }: Arena,
  gradients: number,
  { rowsAt }: PlacedTensor,
  { rows }: TakenIn,
  index: number,
): Int32Array | null {
  const taken = rows?.[index];
  return taken ? new Int32Array(memory.buffer, gradients + rowsAt, taken.count) : null;
}

function copyWeights(
  operation: Operation,
  tensor: PlacedTensor,
  rows: Int32Array | null,
  arena: Arena,
  to: number,
): number | null {
  if (operation.op !== 'addDecayedWeights') return null;
  assertReadable(operation);
  const params = operation.params!;
  if (!params.has(tensor.name)) return null;
  const { data } = params.get(tensor.name);
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (!rows) {
    if (data.length !== tensor.length) return null;
    copyBytes(bytes, arena.bytes, to);
    return to;
  }
  const stride = 4 * widthOf(tensor);
  if (rows.some((row) => row < 0 || (row + 1) * stride > data.byteLength)) return null;
  rows.forEach((row, i) => {
    copyBytes(bytes, arena.bytes, to + i * stride, row * stride, (row + 1) * stride);
  });
  return to;
}
