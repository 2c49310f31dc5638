import { Subject } from 'rxjs';
import { GradientBatch } from '../src/events.ts';
import { CALL_BYTES, Call } from '../src/kernels/call.ts';
import { adamRule } from '../src/optimizers/adam.ts';
import { momentumRule } from '../src/optimizers/momentum.ts';
import { type OptimizerConfig, optimizer } from '../src/optimizers/optimizer.ts';
import type { Rule } from '../src/optimizers/rule.ts';
import { Parameters } from '../src/params/parameters.ts';
import { tensorLayout } from '../src/payload.ts';
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

/** Gradients as a message has them: sin 0, sin 1, … */
export function gradientBytes(length: number): Buffer {
  return Buffer.from(Float32Array.from({ length }, (_, i) => Math.sin(i)).buffer);
}

/** Where a message lies in what came from a socket. */
export function atOddOffset(bytes: Buffer): Buffer {
  const chunk = Buffer.allocUnsafeSlow(bytes.byteLength + 101);
  bytes.copy(chunk, 101);
  return chunk.subarray(101);
}

/** The kernels and nothing else: gradients are in the arena, their norm is known. */
export function stepAlone(params: Parameters, { rule, config }: Setup): () => void {
  const { arena, leftRight, places, weights, byteLength } = params;
  const length = byteLength / 4;
  const gradients = arena.allocate(byteLength);
  const arrays = rule.state.map(() => arena.allocate(byteLength));
  arena.floats(gradients, length).set(new Float32Array(gradientBytes(length).buffer));
  const norm = Math.sqrt(arena.kernels.sumOfSquares(gradients, length));
  const call = new Call(arena.memory.buffer, arena.allocate(CALL_BYTES));
  call.setPrologue(clipFactor(norm, config.gradClipNorm), config.gradClipValue ?? Number.POSITIVE_INFINITY, config.weightDecay);
  const facts = { lr: config.lr, weightDecay: 0, dims: [length], length, sums: [], state: {} };
  let count = 0;
  return () => {
    const side = leftRight.target;
    const [from, to] = [weights[leftRight.latest], weights[side]];
    count += 1;
    for (const { kernel, scalars } of rule.passes) {
      call.setScalars(kernel, config.lr, scalars({ ...facts, count }));
      for (const { offset, length } of places) {
        call.setWeights(from + offset, to + offset);
        call.setGradient(gradients + offset);
        for (let i = 0; i < arrays.length; i++) call.setArray(i, arrays[i]! + offset);
        arena.kernels.run(kernel.name, call.address, 0, length);
      }
    }
    leftRight.commit(side, count);
    leftRight.swap();
  };
}

/** The operator that users write, fed by a Subject: each call steps with the next batch. */
export function stepReceived(
  params: Parameters,
  { config }: Setup,
  next: () => GradientBatch,
  onStep: () => void = () => {},
): () => void {
  const batches = new Subject<GradientBatch>();
  const scan = optimizer(params, config, { maxRejectionsInARow: 1, rejections: { next: fail } });
  batches.pipe(scan).subscribe({ next: onStep, error: fail });
  return () => batches.next(next());
}

/** Makes a new batch a call, as a decoder does, over these payloads in turn. */
export function received(params: Parameters, payloads: readonly Buffer[]): () => GradientBatch {
  let begin = 0;
  const tensors = [...params].map(({ name, dims, length }) => {
    const spec = { name, dims, dtype: 'F32', begin, length } as const;
    begin += 4 * length;
    return spec;
  });
  const layout = tensorLayout(tensors, begin);
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
