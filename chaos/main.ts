import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { ProcessCluster } from '../test/broker/process-cluster.ts';
import type { Ground, Outcome } from './ground.ts';
import { Random } from './random.ts';

type Scenario = (ground: Ground) => Promise<Outcome>;

const scenarios: Readonly<Record<string, () => Promise<{ default: Scenario }>>> = {
  kill: () => import('./kill.ts'),
  broker: () => import('./broker.ts'),
  leader: () => import('./leader.ts'),
  acknowledged: () => import('./acknowledged.ts'),
  operations: () => import('./operations.ts'),
  rebalance: () => import('./rebalance.ts'),
  pause: () => import('./pause.ts'),
  owners: () => import('./owners.ts'),
  quiet: () => import('./quiet.ts'),
  fleet: () => import('./fleet.ts'),
  anew: () => import('./anew.ts'),
  disk: () => import('./disk.ts'),
  mutations: () => import('./mutations.ts'),
  torn: () => import('./torn.ts'),
  soak: () => import('./soak.ts'),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string' }, seed: { type: 'string' } },
});
const minutes = Number(values.minutes ?? 0);
const firstSeed = Number(values.seed ?? randomInt(2 ** 31));
const unknown = positionals.filter((name) => !Object.hasOwn(scenarios, name));
if (unknown.length > 0 || Number.isNaN(minutes) || !Number.isSafeInteger(firstSeed)) {
  console.error(`Expected [--minutes N] [--seed N] and scenarios of ${Object.keys(scenarios).join(', ')}`);
  process.exit(2);
}
// It takes as long as one lets it.
const names = positionals.length > 0 ? positionals : Object.keys(scenarios).filter((name) => name !== 'soak');

const started: Promise<ProcessCluster>[] = [];
const results: { name: string; seed: number; seconds: number; outcome: Outcome }[] = [];
const endMs = Date.now() + 60_000 * minutes;
try {
  let seed = firstSeed;
  do {
    for (const name of names) {
      await play(name, seed);
      seed += 1;
      if (minutes > 0 && Date.now() >= endMs) break;
    }
  } while (Date.now() < endMs);
} finally {
  for (const cluster of started) await (await cluster).stop();
}
report();

/** Plays a scenario once. What it throws is a problem as any other. */
async function play(name: string, seed: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-chaos-'));
  console.log(`${name}: --seed ${seed}`);
  const start = performance.now();
  const brokers = async (): Promise<string> => {
    if (started.length === 0) started.push(ProcessCluster.start());
    return (await started[0]!).brokers;
  };
  const { default: scenario } = await scenarios[name]!();
  const outcome = await scenario({ random: new Random(seed), folder, brokers, minutes, say: console.log }).catch(
    (error: Error): Outcome => ({ counts: {}, problems: [error.stack ?? error.message] }),
  );
  results.push({ name, seed, seconds: (performance.now() - start) / 1000, outcome });
  for (const problem of outcome.problems) console.error(`${name}: ${problem}`);
  console.log(`${name}: ${countsOf(outcome).join(', ')}; ${outcome.problems.length} problems`);
  await rm(folder, { recursive: true, force: true });
}

function countsOf({ counts }: Outcome): string[] {
  return Object.entries(counts).map(([what, count]) => `${what} ${count}`);
}

function report(): void {
  const table = new Table({ head: ['scenario', 'seed', 'seconds', 'counts', 'problems'], style: { head: [], border: [] } });
  for (const { name, seed, seconds, outcome } of results) {
    table.push([name, seed, seconds.toFixed(0), countsOf(outcome).join('\n'), outcome.problems.length]);
  }
  console.log(table.toString());
  if (results.some(({ outcome }) => outcome.problems.length > 0)) process.exitCode = 1;
}
