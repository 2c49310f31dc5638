import { Subject } from 'rxjs';
import { GradientBatch, type TrainingEvent } from '../src/events.ts';
import { CALL_BYTES, Call } from '../src/kernels/call.ts';
import { adamRule } from '../src/optimizers/adam.ts';
import { type Execution, InPlace, OnPool } from '../src/optimizers/execution.ts';
import { momentumRule } from '../src/optimizers/momentum.ts';
import { type OptimizerConfig, optimizer } from '../src/optimizers/optimizer.ts';
import type { Pass, Rule } from '../src/optimizers/rule.ts';
import { Parameters } from '../src/params/parameters.ts';
import { type TensorLayout, tensorLayout } from '../src/payload.ts';
import { clipFactor } from '../src/pending.ts';

/** An optimizer as its rule, and as a config with all that comes before the rule. */
export interface Setup {
  readonly rule: Rule;
  readonly config: OptimizerConfig & {
    readonly lr: number;
    readonly weightDecay: number;
    readonly gradClipNorm: number;
    readonly gradClipValue?: number;
  };
}

const common = { lr: 1e-3, weightDecay: 1e-4, gradClipNorm: 1 } as const;

export const setups = {
  momentum: { rule: momentumRule(0.9), config: { type: 'Momentum', momentum: 0.9, ...common } },
  adam: { rule: adamRule([0.9, 0.999], 1e-8, false), config: { type: 'Adam', ...common } },
} as const satisfies Readonly<Record<string, Setup>>;

/** Zeros: as many square matrices as this, of so many weights together. */
export function model(size: number, matrices: number): Parameters {
  const side = Math.sqrt(size / matrices);
  return Parameters.create(Object.fromEntries(Array.from({ length: matrices }, (_, i) => [`w${i}`, { dims: [side, side] }])));
}

let sines = new Float32Array(0);

/** Gradients as a message has them: sin 0, sin 1, … They are computed once: do not write there. */
export function gradientBytes(length: number): Buffer {
  if (sines.length < length) sines = Float32Array.from({ length }, (_, i) => Math.sin(i));
  return Buffer.from(sines.buffer, 0, 4 * length);
}

/** Where a message lies in what came from a socket. */
export function atOddOffset(bytes: Buffer): Buffer {
  const chunk = Buffer.allocUnsafeSlow(bytes.byteLength + 101);
  bytes.copy(chunk, 101);
  return chunk.subarray(101);
}

/** Something that can be done again and again until it is closed. Where it is done on other threads, the next may be asked for when its promise resolves. */
export interface Step {
  take(): void | Promise<void>;
  /** Resolves when all that was asked for is done. Default: it is. */
  finish?(): Promise<void>;
  /** Lets the threads end. */
  close(): void;
}

/** The kernels and nothing else: gradients are in the arena, their norm is known. In place for 0 threads, else on a pool. */
export function stepAlone(params: Parameters, { rule, config }: Setup, threads: number): Step {
  const { arena, leftRight } = params;
  const origin = params.origins.of(null);
  const calls = callsFor(params, rule, config);
  let count = 0;
  const begin = (execution: Execution, { kernel, scalars }: Pass): void => {
    const [from, to] = [leftRight.address(leftRight.latest), leftRight.address(leftRight.target)];
    for (const { call, offset, facts } of calls) {
      call.setWeights(from + offset, to + offset);
      call.setScalars(kernel, config.lr, scalars({ ...facts, count }));
      execution.add(kernel, call.address, facts.length);
    }
  };
  const end = (): void => {
    leftRight.commit(leftRight.target, count, origin);
    params.swap();
  };
  const stepWith = function* (execution: Execution): Generator<void, void> {
    count += 1;
    for (const pass of rule.passes) {
      begin(execution, pass);
      yield;
    }
    end();
  };
  const execution = threads === 0 ? new InPlace(arena) : new OnPool(arena, threads);
  return {
    take: () => execution.finish(stepWith(execution)),
    close: () => execution instanceof OnPool && void execution.close(),
  };
}

/** A call for each parameter, with all that stays the same in every step. */
function callsFor({ arena, places, byteLength }: Parameters, rule: Rule, config: Setup['config']) {
  const gradients = arena.allocate(byteLength);
  const arrays = rule.state.map(() => arena.allocate(byteLength));
  gradientBytes(byteLength / 4).copy(arena.bytes, gradients);
  const norm = Math.sqrt(arena.kernels.sumOfSquares(gradients, byteLength / 4));
  const { lr, gradClipNorm, gradClipValue = Number.POSITIVE_INFINITY, weightDecay } = config;
  return places.map(({ offset, dims, length }) => {
    const call = new Call(arena.memory.buffer, arena.allocate(CALL_BYTES));
    call.setPrologue(clipFactor(norm, gradClipNorm), gradClipValue, weightDecay);
    call.setGradient(gradients + offset);
    for (const [i, array] of arrays.entries()) call.setArray(i, array + offset);
    return { call, offset, facts: { lr, weightDecay: 0, dims, length, sums: [], state: {} } };
  });
}

/** The operator that users write, fed by a Subject: a step with the next batch. Without `threads`, it chooses them itself. */
export function stepReceived(
  params: Parameters,
  { config }: { readonly config: OptimizerConfig },
  threads: number | undefined,
  next: () => TrainingEvent,
): Step {
  const batches = new Subject<TrainingEvent>();
  const chosen = threads === undefined ? {} : { threads };
  const scan = optimizer(params, config, { ...chosen, maxRejectionsInARow: 1, rejections: { next: fail } });
  // As batches come from a log: the next one is there while one is stepped.
  let underWay = 0;
  let applied = (): void => {};
  const onStep = (): void => {
    params.swap();
    underWay = Math.max(0, underWay - 1);
    applied();
  };
  const downTo = async (left: number): Promise<void> => {
    while (underWay > left) await new Promise<void>((resolve) => (applied = resolve));
  };
  const subscription = batches.pipe(scan).subscribe({ next: onStep, error: fail });
  const send = (): void => batches.next(next());
  const close = (): void => subscription.unsubscribe();
  if (threads === 0) return { take: send, close };
  const sendNext = (): Promise<void> => {
    underWay += 1;
    send();
    return downTo(1);
  };
  return { take: sendNext, finish: () => downTo(0), close };
}

/** Makes a new batch a call, as a decoder does, over these payloads in turn. */
export function received(params: Parameters, payloads: readonly Buffer[]): () => GradientBatch {
  let begin = 0;
  const tensors = [...params].map(({ name, dims, length }) => {
    const spec = { name, dims, dtype: 'F32', begin, length } as const;
    begin += 4 * length;
    return spec;
  });
  return batchesOf(tensorLayout(tensors, begin), payloads);
}

/** As {@link received}, of payloads that lie as told. */
export function batchesOf(layout: TensorLayout, payloads: readonly Uint8Array[]): () => GradientBatch {
  let sequence = 0;
  return () => {
    const payload = payloads[sequence % payloads.length]!;
    const facts = { worker: 'w', sequence, base: sequence, batchSize: 32 };
    sequence += 1;
    return new GradientBatch({ layout, payload, facts, delivery: null }, null);
  };
}

function fail(reason: unknown): never {
  throw new Error('Expected every batch to be applied', { cause: reason });
}
