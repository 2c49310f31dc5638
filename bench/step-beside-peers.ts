import { availableParallelism } from 'node:os';
import { fastestOf, type Own, openWithReasons, raceBesidePeers } from './beside-peers.ts';
import type { DenseProblem } from './peers.ts';
import { type Aim, atLeast, type Table, tableOf } from './report.ts';
import { pairedRatio } from './statistics.ts';
import { atOddOffset, gradientBytes, model, received, setups, stepAlone, stepReceived } from './step-contestants.ts';

const matrices = 4;
const titles = { momentum: 'Momentum', adam: 'Adam' } as const;
// How many times longer than rxgrad the fastest peer should take, by size: bare, it has less to do.
const aims = { alone: [8, 2, 1.2], bare: null, received: [5, 1.1, 0.8] } as const;
const modes = ['alone', 'bare', 'received'] as const;
// In place first: its weights are what those of the peers are compared with.
const cores = availableParallelism();
const threadCounts = cores > 1 ? [0, cores - 1, cores] : [0];

export interface BesidePeers {
  /** Of the libraries that took part. */
  readonly versions: Readonly<Record<string, string>>;
  readonly tables: readonly Table[];
  readonly aims: readonly Aim[];
  readonly notRun: readonly string[];
}

/** Nanoseconds a parameter of the same steps in rxgrad and in other libraries, which take turns. */
export async function stepBesidePeers(sizes: readonly { parameters: number; rounds: number }[]): Promise<BesidePeers> {
  const { peers, versions, notRun } = await openWithReasons();
  const result = { versions, tables: [] as Table[], aims: [] as Aim[], notRun: [...notRun] };
  for (const rule of ['momentum', 'adam'] as const) {
    for (const mode of modes) {
      for (const [index, { parameters, rounds }] of sizes.entries()) {
        const title = `${titles[rule]}, ${mode}, ${parameters.toLocaleString('en')}`;
        const problem = { rule, mode, size: parameters };
        const own = Object.fromEntries(threadCounts.map((threads) => [words(threads), stepOf(problem, threads)]));
        const { laps, notRun } = await raceBesidePeers(own, peers, problem, { rounds, leastCalls: mode === 'received' ? 4 : 1 });
        result.notRun.push(...notRun.map((reason) => `${title}, ${reason}`));
        const fastest = fastestOf(laps, Object.keys(own))!;
        const others = Object.keys(laps).filter((name) => !(name in own));
        const rival = fastestOf(laps, others);
        result.tables.push(tableOf(laps, { title, unit: 'ns/parameter', divisor: parameters, reference: fastest }));
        const limit = aims[mode]?.[index];
        if (rival === undefined || limit === undefined) continue;
        result.aims.push(atLeast(`${title}: ${rival} against ${fastest}`, limit, pairedRatio(laps[rival]!, laps[fastest]!)));
      }
    }
  }
  await peers?.close();
  return result;
}

function words(threads: number): string {
  if (threads === 0) return 'rxgrad, in place';
  return `rxgrad, ${threads} ${threads === 1 ? 'thread' : 'threads'} more`;
}

function stepOf({ rule, mode, size }: DenseProblem, threads: number): Own {
  const params = model(size, matrices);
  if (mode !== 'received') return { params, step: stepAlone(params, setups[rule], threads) };
  const next = received(params, [atOddOffset(gradientBytes(size))]);
  return { params, step: stepReceived(params, setups[rule], threads, next) };
}
