import fc from 'fast-check';
import {
  accumulate,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  encodeEvent,
  epochBoundary,
  GradientBatch,
  type GradientInput,
  gradientBatch,
  metricReport,
  type NewRecord,
  Parameters,
  type ScanOptions,
  staleness,
  type TrainingEvent,
} from 'rxgrad';
import { filter, map, type OperatorFunction } from 'rxjs';
import { scans } from '../optimizers/batches.ts';
import { wave } from '../stages/gradients.ts';

/** Random programs: what stands in a log, and the stages and optimizer that it goes through. */

type Stage = OperatorFunction<TrainingEvent, TrainingEvent>;

const dims = { table: [11, 3], matrix: [4, 5], bias: [7] };
const names = Object.keys(dims) as (keyof typeof dims)[];
const sizeOf = (shape: readonly number[]): number => shape.reduce((size, dim) => size * dim, 1);

/** The model of all programs, its parameters in any order. */
export function model(order: readonly number[] = [0, 1, 2]): Parameters {
  const specs = order.map((i) => [names[i]!, { dims: dims[names[i]!], data: wave(sizeOf(dims[names[i]!]), i) }] as const);
  return Parameters.create(Object.fromEntries(specs));
}

export const orders = fc.shuffledSubarray([0, 1, 2], { minLength: 3 });

const sequence = fc.oneof(
  { weight: 12, arbitrary: fc.constant('next' as const) },
  { weight: 2, arbitrary: fc.constant('again' as const) },
  { weight: 2, arbitrary: fc.constant('swapped' as const) },
  { weight: 1, arbitrary: fc.constant('old' as const) },
  { weight: 1, arbitrary: fc.constant('far' as const) },
  { weight: 1, arbitrary: fc.constant('jump' as const) },
  { weight: 1, arbitrary: fc.constant('late' as const) },
  { weight: 1, arbitrary: fc.constant('none' as const) },
);

const batchEvent = fc.record({
  kind: fc.constant('batch' as const),
  parts: fc.uniqueArray(fc.constantFrom('table', 'rows', 'matrix', 'bias'), { minLength: 1, maxLength: 3 }),
  rows: fc.uniqueArray(fc.nat(10), { maxLength: 4 }),
  flaw: fc.oneof(
    { weight: 14, arbitrary: fc.constant(null) },
    { weight: 3, arbitrary: fc.constantFrom('nan', 'unknown', 'shape', 'row', 'huge', 'future', 'undecodable') },
  ),
  worker: fc.nat(2),
  sequence,
  incarnation: fc.constantFrom(undefined, undefined, undefined, undefined, 1, 2),
  staleness: fc.nat(3),
  size: fc.integer({ min: 1, max: 9 }),
  dtype: fc.constantFrom('F32' as const, 'F16' as const, 'BF16' as const, 'I8' as const),
});
const otherEvent = fc.oneof(
  fc.record({ kind: fc.constant('metric' as const), other: fc.boolean(), value: fc.integer({ min: 0, max: 3 }) }),
  fc.record({ kind: fc.constant('epoch' as const), step: fc.constantFrom(1, 1, 1, 3, 0, -1) }),
  fc.record({ kind: fc.constant('garbage' as const) }),
  fc.record({ kind: fc.constant('retried' as const), again: fc.boolean(), base: fc.constantFrom(undefined, 1, 3) }),
);

/** What stands in a log, one event after the other. */
export const logs = fc.array(fc.oneof({ weight: 5, arbitrary: batchEvent }, { weight: 2, arbitrary: otherEvent }), {
  minLength: 1,
  maxLength: 24,
});
export type Log = typeof logs extends fc.Arbitrary<infer T> ? T : never;
type Batch = typeof batchEvent extends fc.Arbitrary<infer T> ? T : never;

/** The records of a log. `watched` is the only metric where a schedule looks at whichever comes. */
export function recordsOf(log: Log, oneMetric: boolean): NewRecord[] {
  const sequences = [0, 0, 0];
  let epoch = 0;
  return log.map((event, i): NewRecord => {
    if (event.kind === 'garbage') return { value: Buffer.from('?'), headers: { ce_type: 'rxgrad.gradients.v1' } };
    if (event.kind === 'metric') {
      return encodeEvent(metricReport({ name: event.other && !oneMetric ? 'accuracy' : 'loss', value: event.value }));
    }
    if (event.kind === 'epoch') {
      epoch += event.step;
      return encodeEvent({ ...epochBoundary(0), epoch: Math.max(0, epoch) });
    }
    if (event.kind === 'retried') return retriedRecord(event, i);
    return recordOf(event, i, sequences);
  });
}

/** As `dead-letters retry` sends them: each from a worker of its own; some twice. */
function retriedRecord({ again, base }: Extract<Log[number], { kind: 'retried' }>, i: number): NewRecord {
  const gradients = { bias: whole('bias', i) };
  return encodeEvent(gradientBatch({ gradients, worker: `retry:gradients/0@${again ? 0 : i}:w0`, sequence: 0, base }));
}

function whole(name: keyof typeof dims, seed: number): GradientInput {
  return { dims: dims[name], data: wave(sizeOf(dims[name]), seed) };
}

function recordOf(event: Batch, i: number, sequences: number[]): NewRecord {
  const gradients: Record<string, GradientInput> = {};
  for (const part of event.parts) {
    if (part !== 'rows') gradients[part] = whole(part as keyof typeof dims, i);
    else if (!event.parts.includes('table')) {
      const indices = event.flaw === 'row' ? [2, 99] : event.rows;
      gradients.table = { indices, values: wave(3 * indices.length, i), dims: [indices.length, 3] };
    }
  }
  if (Object.keys(gradients).length === 0) gradients.bias = wave(7, i);
  if (event.flaw === 'nan') gradients.bias = wave(7).fill(Number.NaN, 3, 4);
  if (event.flaw === 'huge') gradients.bias = wave(7).fill(1e6);
  if (event.flaw === 'unknown') gradients.nobody = wave(2);
  if (event.flaw === 'shape') gradients.bias = wave(5);
  const next = sequences[event.worker]!;
  const told = {
    next,
    far: next + 5000,
    jump: next + 1500,
    late: Math.max(0, next - 478),
    again: Math.max(0, next - 1),
    swapped: next + 1,
    old: Math.max(0, next - 4),
    none: undefined,
  }[event.sequence];
  if (event.sequence === 'next') sequences[event.worker] = next + 1;
  if (event.sequence === 'jump') sequences[event.worker] = next + 1501;
  if (event.sequence === 'swapped') sequences[event.worker] = next + (i % 2 === 0 ? 0 : 2);
  const facts = {
    worker: `w${event.worker}`,
    sequence: told,
    incarnation: event.incarnation,
    batchSize: event.size,
    base: event.flaw === 'future' ? 1000 : Math.max(0, (i >> 2) - event.staleness),
  };
  const dtype = event.flaw === 'nan' || event.flaw === 'huge' ? 'F32' : event.dtype;
  const record = encodeEvent(gradientBatch({ gradients, ...facts }), { dtype });
  return event.flaw === 'undecodable' ? { ...record, value: record.value!.subarray(0, 5) } : record;
}

const read: Stage = map((event) => (event instanceof GradientBatch ? event.withGradients(event.gradients) : event));
const everyThirdLeft: Stage = filter((event) => event.kind !== 'gradients' || (event.delivery?.position.offset ?? 0) % 3 !== 1);

const stages: Record<string, (params: Parameters) => Stage> = {
  accumulate2: () => accumulate(2),
  accumulate3: () => accumulate(3),
  norm: () => clipByGlobalNorm({ bias: 0.5, '*': 2 }),
  value: () => clipByValue(0.6),
  decay: (params) => addDecayedWeights({ 'm*': 0.1, '*': 0.01 }, params),
  drop: () => staleness({ type: 'drop', above: 2 }),
  scale: () => staleness({ type: 'scale' }),
  compensate: () => staleness({ type: 'compensate', lambda: 0.5, adaptive: true, versions: 2 }),
  read: () => read,
  filter: () => everyThirdLeft,
};

/**
 * Names of stages, in an order that can be run: gradients that only the scan can make are neither read nor merged. Decayed ones are not
 * read in front of a merge: a retried letter ends it, and was read with the weights from before.
 */
export const chains = fc.uniqueArray(fc.constantFrom(...Object.keys(stages)), { maxLength: 5 }).filter((chain) => {
  const [decay, read] = [chain.indexOf('decay'), chain.indexOf('read')];
  if (decay !== -1 && decay < read && chain.slice(read).some((name) => name.startsWith('accumulate'))) return false;
  const late = chain.findIndex((name) => name === 'scale' || name === 'compensate');
  return late === -1 || !chain.slice(late).some((name) => name === 'read' || name.startsWith('accumulate'));
});

export function stagesOf(chain: readonly string[], params: Parameters): Stage {
  return (events$) => chain.reduce((all$, name) => all$.pipe(stages[name]!(params)), events$);
}

export const optimizers = fc.record({
  scan: fc.constantFrom(...scans),
  lr: fc.constantFrom<NonNullable<ScanOptions['lr']>>(
    0.05,
    { type: 'StepLR', baseLr: 0.1, stepSize: 1, gamma: 0.5 },
    { type: 'ReduceLROnPlateau', baseLr: 0.1, patience: 0, factor: 0.5 },
    { type: 'ReduceLROnPlateau', baseLr: 0.1, patience: 1, factor: 0.5, metric: 'accuracy', mode: 'max' },
  ),
  tickOn: fc.constantFrom('epoch' as const, 'step' as const),
  frozen: fc.boolean(),
  groupRate: fc.boolean(),
  outliers: fc.boolean(),
  average: fc.constantFrom(null, null, {}, { decay: { table: 0, '*': 0.7 } }, { decay: 0.5, after: 2 }),
});
export type Optimizer = typeof optimizers extends fc.Arbitrary<infer T> ? T : never;

/** Whether its schedule looks at whichever metric comes. */
export function takesAnyMetric({ lr }: Optimizer): boolean {
  return typeof lr === 'object' && 'type' in lr && lr.type === 'ReduceLROnPlateau' && !('metric' in lr);
}

/** The options of a scan, its rejections and average aside. */
export function optionsOf({ lr, tickOn, frozen, groupRate, outliers }: Optimizer): ScanOptions {
  return {
    lr,
    tickOn,
    groups: [
      ...(frozen ? [{ params: 'matrix', frozen: true }] : []),
      ...(groupRate ? [{ params: 'b*', lr: { type: 'StepLR', baseLr: 0.2, stepSize: 2, gamma: 0.5 } as const }] : []),
    ],
    ...(outliers ? { outliers: { policy: 'reject', window: 6, after: 3, factor: 2 } as const } : {}),
    maxRejectionsInARow: 1e6,
  };
}
