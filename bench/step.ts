import { type Laps, race, timed } from './race.ts';
import { atMost, type Report, tableOf } from './report.ts';
import { median, pairedRatio } from './statistics.ts';
import { stepBesidePeers } from './step-beside-peers.ts';
import { atOddOffset, gradientBytes, model, received, setups, stepAlone, stepReceived } from './step-contestants.ts';

const sizes = [
  { parameters: 16_384, rounds: 40 },
  { parameters: 1_000_000, rounds: 30 },
  { parameters: 25_000_000, rounds: 15 },
];
const momentum = 0.9;
const limit = 0.01;
const clipped = { ...setups.momentum, config: { ...setups.momentum.config, gradClipValue: limit } };
// As far apart as messages in a log: twice what the caches hold.
const rotatedBytes = 64 * 2 ** 20;

/**
 * Nanoseconds a parameter: Momentum with clipping by norm and by value and decay, beside a memory copy; then Momentum and Adam
 * with clipping by norm and decay, beside other libraries.
 */
export default async function step(): Promise<Report> {
  const results: { parameters: number; laps: Laps<Name> }[] = [];
  for (const { parameters, rounds } of sizes) results.push({ parameters, laps: await race(contestants(parameters), rounds) });
  const small = results[0]!;
  const large = results.at(-1)!;
  const peers = await stepBesidePeers(sizes);
  const versions = Object.entries(peers.versions).map((entry) => entry.join(' '));
  const beside = versions.length > 0 ? `; beside ${versions.join(', ')}` : '';
  return {
    name: 'step',
    measures: `clips, decay and rule, one step, in place where no threads are named; from src/, Node strips the types${beside}`,
    tables: [
      ...results.map(({ parameters, laps }) =>
        tableOf(laps, { title: words(parameters), unit: 'ns/parameter', divisor: parameters, reference: 'copy of 20 bytes' }),
      ),
      ...peers.tables,
    ],
    aims: [
      ...(['received, one buffer', 'received, 64 MB of buffers'] as const).map((name) =>
        atMost(`ns a parameter, ${words(small.parameters)}, ${name}`, 0.7, median(small.laps[name]) / small.parameters),
      ),
      atMost(
        `step alone in place against a copy, ${words(large.parameters)}`,
        1.4,
        pairedRatio(large.laps['step alone, in place'], large.laps['copy of 20 bytes']),
      ),
      ...peers.aims,
    ],
    notRun: peers.notRun,
  };
}

type Name = keyof ReturnType<typeof contestants>;

function contestants(length: number) {
  const gradients = gradientBytes(length);
  const warm = windows(length);
  const copies = Math.max(1, Math.floor(rotatedBytes / (4 * length)));
  const cold = Array.from({ length: copies }, () => atOddOffset(gradients));
  return {
    'copy of 20 bytes': timed(copy(length)),
    'step alone, in place': timed(stepAlone(model(length, 1), clipped, 0).take),
    'step alone, left-right': timed(stepAlone(withReader(model(length, 1)), clipped, 0).take),
    'received, one buffer': timed(operatorStep(model(length, 1), warm)),
    'received, 64 MB of buffers': timed(operatorStep(model(length, 1), cold)),
    'received, left-right': timed(operatorStep(withReader(model(length, 1)), cold)),
    'plain JavaScript, in place': timed(plain(length, gradients)),
  };
}

type Model = ReturnType<typeof model>;

function withReader(params: Model): Model {
  params.reader();
  return params;
}

function operatorStep(params: Model, payloads: readonly Buffer[]): () => unknown {
  return stepReceived(params, clipped, 0, received(params, payloads)).take;
}

/** Copies 10 bytes a parameter: 10 are read, 10 are written. At other places in their pages: see {@link windows}. */
function copy(length: number): () => void {
  const from = Buffer.alloc(10 * length, 1);
  const to = Buffer.alloc(10 * length + 2048).subarray(2048);
  return () => from.copy(to);
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

/** The same arithmetic as anyone would write it: norm, then one loop. */
function plain(length: number, bytes: Buffer): () => void {
  const w = new Float32Array(length);
  const v = new Float32Array(length);
  const g = new Float32Array(length);
  new Uint8Array(g.buffer).set(bytes);
  const { lr, weightDecay, gradClipNorm } = clipped.config;
  return () => {
    let squares = 0;
    for (let i = 0; i < length; i++) squares += g[i]! * g[i]!;
    const norm = Math.sqrt(squares);
    const scale = norm < gradClipNorm ? 1 : gradClipNorm / norm;
    for (let i = 0; i < length; i++) {
      const gradient = Math.min(Math.max(g[i]! * scale, -limit), limit) + weightDecay * w[i]!;
      v[i] = momentum * v[i]! + gradient;
      w[i] = w[i]! - lr * v[i]!;
    }
  };
}

function words(parameters: number): string {
  return `${parameters.toLocaleString('en')} parameters`;
}
