import { availableParallelism } from 'node:os';
import { openPeers, type Peers, type Prepared, type Problem } from './peers.ts';
import { type Contestant, type Laps, race, timed } from './race.ts';
import { type Aim, atLeast, type Table, tableOf } from './report.ts';
import { median, pairedRatio } from './statistics.ts';
import { atOddOffset, gradientBytes, model, received, type Step, setups, stepAlone, stepReceived } from './step-contestants.ts';

const matrices = 4;
const titles = { momentum: 'Momentum', adam: 'Adam' } as const;
// How many times longer than rxgrad the fastest peer should take, by size.
const aims = { alone: [8, 2, 1.2], received: [5, 1.1, 0.8] } as const;
const tolerance = 1e-3;
// In place first: its weights are what those of the peers are compared with.
const threadCounts = availableParallelism() > 1 ? [0, availableParallelism()] : [0];

export interface BesidePeers {
  /** Of the libraries that took part. */
  readonly versions: Readonly<Record<string, string>>;
  readonly tables: readonly Table[];
  readonly aims: readonly Aim[];
  readonly notRun: readonly string[];
}

/** Nanoseconds a parameter of the same steps in rxgrad and in other libraries, which take turns. */
export async function stepBesidePeers(sizes: readonly { parameters: number; rounds: number }[]): Promise<BesidePeers> {
  const opened = await openPeers();
  const peers = 'reason' in opened ? null : opened;
  const described = await peers?.describe();
  const result = { versions: described?.versions ?? {}, tables: [] as Table[], aims: [] as Aim[], notRun: [] as string[] };
  if ('reason' in opened) result.notRun.push(`peers: ${opened.reason}`);
  for (const [name, reason] of Object.entries(described?.missing ?? {})) result.notRun.push(`${name}: ${reason}`);
  for (const rule of ['momentum', 'adam'] as const) {
    for (const mode of ['alone', 'received'] as const) {
      for (const [index, { parameters, rounds }] of sizes.entries()) {
        const title = `${titles[rule]}, ${mode}, ${parameters.toLocaleString('en')}`;
        const { laps, own, notRun } = await measure({ rule, mode, size: parameters }, rounds, peers);
        result.notRun.push(...notRun.map((reason) => `${title}, ${reason}`));
        const fastest = fastestOf(laps, own)!;
        const others = Object.keys(laps).filter((name) => !own.includes(name));
        const rival = fastestOf(laps, others);
        result.tables.push(tableOf(laps, { title, unit: 'ns/parameter', divisor: parameters, reference: fastest }));
        if (rival === undefined) continue;
        const ratio = pairedRatio(laps[rival]!, laps[fastest]!);
        result.aims.push(atLeast(`${title}: ${rival} against ${fastest}`, aims[mode][index]!, ratio));
      }
    }
  }
  await peers?.close();
  return result;
}

/** Where the peers' process fails, rxgrad runs without them. */
async function measure(
  problem: Problem,
  rounds: number,
  peers: Peers | null,
): Promise<{ laps: Laps<string>; own: string[]; notRun: string[] }> {
  const steps = Object.fromEntries(threadCounts.map((threads) => [words(threads), stepOf(problem, threads)]));
  const own = Object.keys(steps);
  const contestants = Object.fromEntries(Object.entries(steps).map(([name, { step }]) => [name, timed(step.take)]));
  const notRun: string[] = [];
  try {
    const rivals = peers ? rivalsOf(peers, await peers.prepare(problem), steps[own[0]!]!, notRun) : {};
    return { laps: await race<string>({ ...contestants, ...rivals }, rounds), own, notRun };
  } catch (error) {
    if (!peers) throw error;
    notRun.push(`peers: ${(error as Error).message}`);
    return { laps: await race<string>(contestants, rounds), own, notRun };
  } finally {
    for (const { step } of Object.values(steps)) step.close();
  }
}

function words(threads: number): string {
  if (threads === 0) return 'rxgrad, in place';
  return `rxgrad, ${threads} threads`;
}

interface Own {
  readonly params: ReturnType<typeof model>;
  readonly step: Step;
}

function stepOf({ rule, mode, size }: Problem, threads: number): Own {
  const params = model(size, matrices);
  if (mode === 'alone') return { params, step: stepAlone(params, setups[rule], threads) };
  const next = received(params, [atOddOffset(gradientBytes(size))]);
  return { params, step: stepReceived(params, setups[rule], threads, next) };
}

/** The peers whose weights are rxgrad's after the same steps. */
function rivalsOf(
  peers: Peers,
  { steps, ready, failed }: Prepared,
  { params, step }: Own,
  notRun: string[],
): Record<string, Contestant> {
  for (const [name, reason] of Object.entries(failed)) notRun.push(`${name}: ${reason}`);
  for (let i = 0; i < steps; i++) step.take();
  const [first] = params;
  const contestants: Record<string, Contestant> = {};
  for (const [name, { way, weights }] of Object.entries(ready)) {
    const what = way === 'held' ? name : `${name}, ${way}`;
    if (agree(weights, first!.data)) contestants[what] = (calls) => peers.lap(name, calls);
    else notRun.push(`${name}: expected rxgrad's weights after ${steps} steps, got ${weights.slice(0, 3).join(', ')}, …`);
  }
  return contestants;
}

function agree(got: readonly number[], expected: Float32Array): boolean {
  const largest = Math.max(...got.map(Math.abs));
  return largest > 0 && got.every((value, i) => Math.abs(value - expected[i]!) <= tolerance * largest);
}

function fastestOf(laps: Laps<string>, names: readonly string[]): string | undefined {
  return names.toSorted((a, b) => median(laps[a]!) - median(laps[b]!))[0];
}
