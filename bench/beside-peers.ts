import { openPeers, type Peers, type Problem } from './peers.ts';
import { type Contestant, type Laps, race, timed } from './race.ts';
import { median } from './statistics.ts';
import type { Step } from './step-contestants.ts';

const tolerance = 1e-3;

/** What other libraries can take part, if any. */
export interface Opened {
  readonly peers: Peers | null;
  readonly versions: Readonly<Record<string, string>>;
  /** Who is missing, and why. */
  readonly notRun: readonly string[];
}

/** Starts the peers. They have to be closed. */
export async function openWithReasons(): Promise<Opened> {
  const peers = await openPeers();
  if ('reason' in peers) return { peers: null, versions: {}, notRun: [`peers: ${peers.reason}`] };
  const { versions, missing } = await peers.describe();
  return { peers, versions, notRun: Object.entries(missing).map((entry) => entry.join(': ')) };
}

/** A step of rxgrad's, and what it steps: all zeros at first. */
export interface Own {
  readonly params: Iterable<{ readonly data: Float32Array }>;
  readonly step: Step;
}

export interface RaceOptions {
  readonly rounds: number;
  /** Steps to take before the race, as where each of them touches other memory. Default 0. */
  readonly settling?: number;
  /** Calls that a lap has at least. Default 1. */
  readonly leastCalls?: number;
}

/**
 * Lets rxgrad's steps take turns with those of other libraries whose weights are the same after the same steps: the same as
 * those of the first one. Closes the steps. Where the peers' process fails, rxgrad runs without them.
 */
export async function raceBesidePeers(
  own: Readonly<Record<string, Own>>,
  peers: Peers | null,
  problem: Problem | null,
  { rounds, settling = 0, leastCalls = 1 }: RaceOptions,
): Promise<{ laps: Laps<string>; notRun: string[] }> {
  const contestants = Object.fromEntries(Object.entries(own).map(([name, { step }]) => [name, timed(step.take, step.finish)]));
  const notRun: string[] = [];
  const none = (error: Error): Record<string, Contestant> => {
    notRun.push(`peers: ${error.message}`);
    return {};
  };
  try {
    const [first] = Object.values(own);
    const rivals = peers && problem ? await rivalsOf(peers, problem, first!, notRun).catch(none) : {};
    for (const { step } of Object.values(own)) await settle(step, settling);
    const laps = await race<string>({ ...contestants, ...rivals }, rounds, leastCalls).catch((error: Error) => {
      if (Object.keys(rivals).length === 0) throw error;
      return race<string>({ ...contestants, ...none(error) }, rounds, leastCalls);
    });
    return { laps, notRun };
  } finally {
    for (const { step } of Object.values(own)) step.close();
  }
}

async function settle(step: Step, steps: number): Promise<void> {
  for (let i = 0; i < steps; i++) await step.take();
  await step.finish?.();
}

async function rivalsOf(
  peers: Peers,
  problem: Problem,
  { params, step }: Own,
  notRun: string[],
): Promise<Record<string, Contestant>> {
  const { steps, ready, failed } = await peers.prepare(problem);
  for (const [name, reason] of Object.entries(failed)) notRun.push(`${name}: ${reason}`);
  await settle(step, steps);
  const [first] = params;
  const contestants: Record<string, Contestant> = {};
  for (const [name, { way, weights }] of Object.entries(ready)) {
    const what = way === 'held' ? name : `${name}, ${way}`;
    if (agree(weights, first!.data)) contestants[what] = (calls) => peers.lap(name, calls);
    else notRun.push(`${name}: expected rxgrad's weights after ${steps} steps, got ${weights.slice(0, 3).join(', ')}, …`);
  }
  return contestants;
}

/** Whether weights are the same, but for what a thousandth of the largest allows. */
export function agree(got: readonly number[], expected: ArrayLike<number>): boolean {
  const largest = Math.max(...got.map(Math.abs));
  return largest > 0 && got.every((value, i) => Math.abs(value - expected[i]!) <= tolerance * largest);
}

/** Who took the least time, if anyone. */
export function fastestOf(laps: Laps<string>, names: readonly string[]): string | undefined {
  return names.toSorted((a, b) => median(laps[a]!) - median(laps[b]!))[0];
}
