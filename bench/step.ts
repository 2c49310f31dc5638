import { Subject } from 'rxjs';
import { GradientBatch } from '../src/events.ts';
import { CALL_BYTES, Call } from '../src/kernels/call.ts';
import { momentumKernel } from '../src/optimizers/momentum.ts';
import { optimizer } from '../src/optimizers/optimizer.ts';
import { Parameters } from '../src/params/parameters.ts';
import { tensorLayout } from '../src/payload.ts';
import { type Laps, race } from './race.ts';
import { atMost, type Report, type Row, type Table } from './report.ts';
import { median, pairedRatio } from './statistics.ts';

const sizes = [
  { parameters: 2 ** 14, rounds: 40 },
  { parameters: 2 ** 20, rounds: 30 },
  { parameters: 25_000_000, rounds: 15 },
];
const rule = { lr: 1e-3, momentum: 0.9, decay: 1e-4, maxNorm: 1, limit: 0.01 };
// As far apart as messages in a log: twice what the caches hold.
const rotatedBytes = 64 * 2 ** 20;

/** Nanoseconds a parameter of a Momentum step with clipping by norm and by value and decay, beside a memory copy. */
export default function step(): Report {
  const results = sizes.map(({ parameters, rounds }) => ({ parameters, laps: race(contestants(parameters), rounds) }));
  const small = results[0]!;
  const large = results.at(-1)!;
  return {
    name: 'step',
    measures: 'Momentum, clip by global norm, clip by value, decay; from src/, Node strips the types',
    tables: results.map(({ parameters, laps }) => tableOf(parameters, laps)),
    aims: [
      ...(['received, one buffer', 'received, 64 MB of buffers'] as const).map((name) =>
        atMost(`ns a parameter, ${words(small.parameters)}, ${name}`, 0.7, median(small.laps[name]) / small.parameters),
      ),
      atMost(
        `step alone in place against a copy, ${words(large.parameters)}`,
        1.4,
        pairedRatio(large.laps['step alone, in place'], large.laps['copy of 20 bytes']),
      ),
    ],
    notRun: [],
  };
}

type Name = keyof ReturnType<typeof contestants>;

function contestants(length: number) {
  const gradients = gradientBytes(length);
  const params = Parameters.create({ w: { dims: [length] } });
  const beside = Parameters.create({ w: { dims: [length] } });
  beside.reader();
  const warm = received(windows(length), length, 'w1');
  const copies = Array.from({ length: Math.max(1, Math.floor(rotatedBytes / (4 * length))) }, () => atOddOffset(gradients));
  const cold = received(copies, length, 'w2');
  const inPlace = stepper(params);
  const leftRight = stepper(beside, () => beside.swap());
  return {
    'copy of 20 bytes': copy(length),
    'step alone, in place': stepAlone(length, false),
    'step alone, left-right': stepAlone(length, true),
    'received, one buffer': () => inPlace(warm()),
    'received, 64 MB of buffers': () => inPlace(cold()),
    'received, left-right': () => leftRight(cold()),
    'plain JavaScript, in place': plain(length, gradients),
  };
}

/** Copies 10 bytes a parameter: 10 are read, 10 are written. */
function copy(length: number): () => void {
  const from = Buffer.alloc(10 * length, 1);
  const to = Buffer.alloc(10 * length);
  return () => from.copy(to);
}

/** The kernel and nothing else: gradients are in the arena, their norm is known. */
function stepAlone(length: number, readerAttached: boolean): () => void {
  const params = Parameters.create({ w: { dims: [length] } });
  const { arena, leftRight, weights } = params;
  const g = arena.allocate(4 * length);
  const v = arena.allocate(4 * length);
  arena.floats(g, length).fill(0.001);
  const call = new Call(arena.memory.buffer, arena.allocate(CALL_BYTES));
  call.setGradient(g);
  call.setArray(0, v);
  call.setPrologue(0.5, rule.limit, rule.decay);
  call.setScalars(momentumKernel, rule.lr, { mu: rule.momentum });
  if (readerAttached) params.reader();
  return () => {
    const side = leftRight.target;
    call.setWeights(weights[leftRight.latest], weights[side]);
    arena.kernels.run(momentumKernel.name, call.address, 0, length);
    leftRight.commit(side, 1);
    leftRight.swap();
  };
}

/** The operator that users write, fed by a Subject. */
function stepper(params: Parameters, onStep: () => void = () => {}): (batch: GradientBatch) => void {
  const batches = new Subject<GradientBatch>();
  const { lr, momentum, decay: weightDecay, maxNorm: gradClipNorm, limit: gradClipValue } = rule;
  const config = { type: 'Momentum', lr, momentum, weightDecay, gradClipNorm, gradClipValue } as const;
  const scan = optimizer(params, config, { maxRejectionsInARow: 1, rejections: { next: fail } });
  batches.pipe(scan).subscribe({
    next: onStep,
    error: fail,
  });
  return (batch) => batches.next(batch);
}

function fail(reason: unknown): never {
  throw new Error('Expected every batch to be applied', { cause: reason });
}

/** Makes a new batch a call, as a decoder does, over these payloads in turn. */
function received(payloads: readonly Buffer[], length: number, worker: string): () => GradientBatch {
  const layout = tensorLayout([{ name: 'w', dims: [length], dtype: 'F32', begin: 0, length }], 4 * length);
  let sequence = 0;
  return () => {
    const payload = payloads[sequence % payloads.length]!;
    const facts = { worker, sequence, base: sequence, batchSize: 32 };
    sequence += 1;
    return new GradientBatch({ layout, payload, facts, delivery: null }, null);
  };
}

/**
 * Payloads that overlap in one buffer, which so stays in cache, at many offsets: with a few of them, a copy takes 14 times as
 * long on AMD's Zen (`rep movsb` where the source's place in its page is up to 15 bytes before the target's).
 */
function windows(length: number): Buffer[] {
  const step = 172;
  const count = 23;
  const all = atOddOffset(gradientBytes(length + (count * step) / 4));
  return Array.from({ length: count }, (_, i) => all.subarray(i * step, i * step + 4 * length));
}

function gradientBytes(length: number): Buffer {
  return Buffer.from(Float32Array.from({ length }, (_, i) => Math.sin(i)).buffer);
}

/** Where a message lies in what came from a socket. */
function atOddOffset(bytes: Buffer): Buffer {
  const chunk = Buffer.allocUnsafeSlow(bytes.byteLength + 101);
  bytes.copy(chunk, 101);
  return chunk.subarray(101);
}

/** The same arithmetic as anyone would write it: norm, then one loop. */
function plain(length: number, bytes: Buffer): () => void {
  const w = new Float32Array(length);
  const v = new Float32Array(length);
  const g = new Float32Array(length);
  new Uint8Array(g.buffer).set(bytes);
  const { lr, momentum, decay, maxNorm, limit } = rule;
  return () => {
    let squares = 0;
    for (let i = 0; i < length; i++) squares += g[i]! * g[i]!;
    const norm = Math.sqrt(squares);
    const scale = norm < maxNorm ? 1 : maxNorm / norm;
    for (let i = 0; i < length; i++) {
      const gradient = Math.min(Math.max(g[i]! * scale, -limit), limit) + decay * w[i]!;
      v[i] = momentum * v[i]! + gradient;
      w[i] = w[i]! - lr * v[i]!;
    }
  };
}

function tableOf(parameters: number, laps: Laps<Name>): Table {
  const rows = (Object.keys(laps) as Name[]).map((name): Row => {
    const perParameter = laps[name].map((ns) => ns / parameters);
    const row = { what: name, median: median(perParameter), best: Math.min(...perParameter), rounds: perParameter.length };
    if (name === 'copy of 20 bytes') return row;
    return { ...row, against: 'copy of 20 bytes', ratio: pairedRatio(laps[name], laps['copy of 20 bytes']) };
  });
  return { title: words(parameters), unit: 'ns/parameter', rows };
}

function words(parameters: number): string {
  return `${parameters.toLocaleString('en')} parameters`;
}
