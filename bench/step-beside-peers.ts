import { openPeers, type Peers, type Prepared, type Problem } from './peers.ts';
import { type Contestant, type Laps, race, timed } from './race.ts';
import { type Aim, atLeast, type Table, tableOf } from './report.ts';
import { median, pairedRatio } from './statistics.ts';
import { atOddOffset, gradientBytes, model, received, setups, stepAlone, stepReceived } from './step-contestants.ts';

const matrices = 4;
const titles = { momentum: 'Momentum', adam: 'Adam' } as const;
// How many times longer than rxgrad the fastest peer should take, by size.
const aims = { alone: [8, 2, 1.2], received: [5, 1.1, 0.8] } as const;
const tolerance = 1e-3;

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
  const params = model(problem.size, matrices);
  const step = stepOf(params, problem);
  const contestants = { 'rxgrad, 1 thread': timed(step) };
  const own = Object.keys(contestants);
  let notRun: string[] = [];
  try {
    if (peers) {
      const prepared = await peers.prepare(problem);
      for (let i = 0; i < prepared.steps; i++) step();
      const [first] = params;
      const rivals = rivalsOf(peers, prepared, first!.data);
      notRun = rivals.notRun;
      return { laps: await race<string>({ ...contestants, ...rivals.contestants }, rounds), own, notRun };
    }
  } catch (error) {
    notRun = [`peers: ${(error as Error).message}`];
  }
  return { laps: await race<string>(contestants, rounds), own, notRun };
}

function stepOf(params: ReturnType<typeof model>, { rule, mode, size }: Problem): () => void {
  if (mode === 'alone') return stepAlone(params, setups[rule]);
  return stepReceived(params, setups[rule], received(params, [atOddOffset(gradientBytes(size))]));
}

/** The peers whose weights are rxgrad's after the same steps. */
function rivalsOf(
  peers: Peers,
  { steps, ready, failed }: Prepared,
  expected: Float32Array,
): { contestants: Readonly<Record<string, Contestant>>; notRun: string[] } {
  const contestants: Record<string, Contestant> = {};
  const notRun = Object.entries(failed).map(([name, reason]) => `${name}: ${reason}`);
  for (const [name, { way, weights }] of Object.entries(ready)) {
    const what = way === 'held' ? name : `${name}, ${way}`;
    if (agree(weights, expected)) contestants[what] = (calls) => peers.lap(name, calls);
    else notRun.push(`${name}: expected rxgrad's weights after ${steps} steps, got ${weights.slice(0, 3).join(', ')}, …`);
  }
  return { contestants, notRun };
}

function agree(got: readonly number[], expected: Float32Array): boolean {
  const largest = Math.max(...got.map(Math.abs));
  return largest > 0 && got.every((value, i) => Math.abs(value - expected[i]!) <= tolerance * largest);
}

function fastestOf(laps: Laps<string>, names: readonly string[]): string | undefined {
  return names.toSorted((a, b) => median(laps[a]!) - median(laps[b]!))[0];
}
