import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Ground, Outcome } from './ground.ts';
import { type RecordedLog, recordedLog } from './recorded-log.ts';
import { differences, misfits } from './state.ts';
import { filledTopic, withTransport } from './topics.ts';
import { Training } from './training.ts';
import { type OpenStore, type WatchedStore, watchedFolders, watchedTopics } from './watched-stores.ts';
import { runArguments, type WholeRun, wholeRun } from './whole-run.ts';

export interface KillCounts {
  readonly batches: number;
  /** Runs of each store, each killed once to three times. */
  readonly runs: number;
  readonly checkpointEvery: number;
}

export const full: KillCounts = { batches: 20_000, runs: 100, checkpointEvery: 250 };

/** Kills a training at random moments, and as it writes checkpoints; each run goes on to the end, and to the same bits. */
export default async function kill(ground: Ground, { batches, runs, checkpointEvery }: KillCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const brokers = await ground.brokers();
  const log = recordedLog(random.below(2 ** 31), batches);
  const counts: Record<string, number> = {};
  const problems: string[] = [];
  await withTransport(brokers, async (transport) => {
    const topic = await filledTopic(transport, log.records);
    const whole = await wholeRun(brokers, topic, log, folder);
    say(`kill: ${batches} batches in ${log.records.length} records; a run takes ${(whole.trainingMs / 1000).toFixed(1)} s`);
    const stores: Record<string, OpenStore> = { folder: watchedFolders(folder), topic: watchedTopics(transport) };
    for (const [name, open] of Object.entries(stores)) {
      const tally = { runs: 0, kills: 0, half: 0 };
      while (tally.runs < runs) {
        const store = await open();
        const file = join(folder, 'state.safetensors');
        const args = [
          ...runArguments(brokers, topic, file),
          '--until-end',
          ...store.args,
          '--checkpoint-every',
          `${checkpointEvery}`,
        ];
        const killed = await killedRun(ground, args, store, whole);
        await store.close();
        // A run that was faster than its kill is none.
        if (killed.kills === 0) continue;
        tally.runs += 1;
        tally.kills += killed.kills;
        tally.half += killed.half;
        const wrong = await wrongs(file, whole, log);
        problems.push(
          ...wrong.map((problem) => `run ${tally.runs} in a ${name}, killed ${killed.moments.join(', ')}: ${problem}`),
        );
        if (tally.runs % 10 === 0)
          say(`kill: ${name}: ${tally.runs} runs, ${tally.kills} kills, ${tally.half} left a checkpoint half`);
      }
      Object.assign(counts, {
        [`${name}: runs`]: tally.runs,
        [`${name}: kills`]: tally.kills,
        [`${name}: checkpoints left half`]: tally.half,
      });
    }
  });
  return { counts, problems };
}

async function wrongs(file: string, whole: WholeRun, log: RecordedLog): Promise<string[]> {
  const state = await readFile(file);
  return [...differences(state, whole.state), ...misfits(state, log)];
}

/** Starts a run again after each of up to three kills, and lets the last one come to its end. */
async function killedRun({ random }: Ground, args: readonly string[], store: WatchedStore, whole: WholeRun) {
  const moments: string[] = [];
  let half = 0;
  for (let left = 1 + random.below(3); left > 0; left--) {
    const run = Training.rxgrad(args);
    const early = random.chance(0.1);
    const aimed = !early && random.chance(0.5);
    const ms = random.share() * (early ? whole.startMs : whole.trainingMs);
    if (!early) await run.says('goes on from version');
    await Promise.race([delay(ms), run.exit()]);
    if (aimed) await Promise.race([store.begun(), run.exit()]);
    if (!(await run.kill())) break;
    moments.push(`${early ? 'after its start by' : 'in training after'} ${ms.toFixed(0)} ms${aimed ? ' at a checkpoint' : ''}`);
    if (await store.leftHalf()) half += 1;
  }
  await Training.rxgrad(args).finished();
  return { kills: moments.length, half, moments };
}
