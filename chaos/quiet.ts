import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openCheckpoint } from '../src/checkpoints/checkpoint-file.ts';
import { FileCheckpoints, type NewRecord } from '../src/index.ts';
import type { Ground, Outcome } from './ground.ts';
import type { Random } from './random.ts';
import { recordedLog } from './recorded-log.ts';
import { differences, misfits } from './state.ts';
import { filledTopic, withTransport } from './topics.ts';
import { Training } from './training.ts';
import { runArguments, wholeRun } from './whole-run.ts';

export interface QuietCounts {
  readonly batches: number;
  readonly bursts: number;
  readonly everyMs: number;
}

export const full: QuietCounts = { batches: 20_000, bursts: 40, everyMs: 500 };

// What a checkpoint may take beyond its interval, where the machine is busy.
const WRITTEN_WITHIN_MS = 20_000;

/**
 * Sends a log in bursts, and kills the training in the pauses: in two of three when a checkpoint has to contain the whole burst, in
 * the others before. The state at the end is that of a run without a pause.
 */
export default async function quiet(ground: Ground, { batches, bursts, everyMs }: QuietCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const brokers = await ground.brokers();
  const log = recordedLog(random.below(2 ** 31), batches);
  const counts = { bursts: 0, 'kills after everyMs': 0, 'records read again then': 0, 'kills before': 0 };
  const problems: string[] = [];
  await withTransport(brokers, async (transport) => {
    const topic = await filledTopic(transport, []);
    const file = join(folder, 'state.safetensors');
    const checkpoints = join(folder, 'checkpoints');
    const args = [...runArguments(brokers, topic, file), '--checkpoints', checkpoints, '--checkpoint-every-ms', String(everyMs)];
    let sent = 0;
    for (const end of endsOf(log.records, bursts, random)) {
      const run = Training.rxgrad(args);
      if (!(await run.says('goes on from version'))) await run.finished();
      await transport.produce(topic, log.records.slice(sent, end));
      sent = end;
      counts.bursts += 1;
      if (random.chance(1 / 3)) {
        await delay(everyMs * random.share());
        counts['kills before'] += 1;
      } else {
        await contains(checkpoints, topic, end, everyMs + WRITTEN_WITHIN_MS);
        counts['kills after everyMs'] += 1;
        const again = end - (await reached(checkpoints, topic));
        counts['records read again then'] += again;
        if (again > 0) problems.push(`burst ${counts.bursts}: the newest checkpoint in the pause lacks ${again} records`);
      }
      if (!(await run.kill())) problems.push(`burst ${counts.bursts}: the training ended by itself: ${run.said.slice(-500)}`);
      if (counts.bursts % 10 === 0) say(`quiet: ${counts.bursts} of ${bursts} bursts`);
    }
    await Training.rxgrad([...args, '--until-end']).finished();
    const whole = await wholeRun(brokers, topic, log, folder);
    const state = await readFile(file);
    problems.push(...differences(state, whole.state), ...misfits(state, log));
  });
  return { counts, problems };
}

/** Where bursts end. Half of them do so right after a record that makes no version: an epoch, or one that came twice. */
function endsOf(records: readonly NewRecord[], bursts: number, random: Random): number[] {
  const seen = new Set<NewRecord>();
  const versionless: number[] = [];
  for (const [i, record] of records.entries()) {
    if (seen.has(record) || String(record.headers?.ce_type).includes('epoch')) versionless.push(i + 1);
    seen.add(record);
  }
  const ends = new Set<number>([records.length]);
  while (ends.size < bursts) {
    ends.add(random.chance(0.5) ? versionless[random.below(versionless.length)]! : 1 + random.below(records.length));
  }
  return [...ends].sort((a, b) => a - b);
}

/** Waits until the newest checkpoint contains the log up to an offset, or the time is over. */
async function contains(folder: string, topic: string, offset: number, withinMs: number): Promise<void> {
  for (const end = performance.now() + withinMs; performance.now() < end; await delay(20)) {
    if ((await reached(folder, topic)) >= offset) return;
  }
}

/** The first offset that the newest checkpoint does not contain. */
async function reached(folder: string, topic: string): Promise<number> {
  const store = new FileCheckpoints(folder);
  const [newest] = await store.list();
  const { positions } = openCheckpoint(await store.read(newest!.version), store.name);
  return positions.find(([of]) => of === topic)?.[2] ?? 0;
}
