import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { embeddedLog } from '../src/index.ts';
import type { Ground, Outcome } from './ground.ts';
import { recordedLog } from './recorded-log.ts';
import { differences, misfits } from './state.ts';
import { Training } from './training.ts';
import { runArguments, wholeRun } from './whole-run.ts';

const exec = promisify(execFile);

export interface OwnersCounts {
  readonly batches: number;
  readonly takeovers: number;
  readonly checkpointEvery: number;
}

export const full: OwnersCounts = { batches: 20_000, takeovers: 60, checkpointEvery: 50 };

const topic = 'gradients';
const refusal = 'another writer has taken over';
const refusedCode = 3;
// What one that was replaced may take to notice it, where the machine is busy.
const endsWithinMs = 60_000;

/**
 * Two and more trainings on one folder of checkpoints, each in a process namespace of its own, as in containers that share a volume: a new
 * one starts while the one before still trains, two start at once, and some are killed as they take over. The newest goes on; the others
 * end with the error that says so; the state at the end is that of a run that had the folder for itself.
 */
export default async function owners(ground: Ground, counts: OwnersCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const recorded = recordedLog(random.below(2 ** 31), counts.batches);
  const { records } = recorded;
  const place = { log: join(folder, 'log') };
  const [file, checkpoints] = [join(folder, 'state.safetensors'), join(folder, 'checkpoints')];
  const args = [
    ...runArguments(place, topic, file),
    ...['--checkpoints', checkpoints, '--checkpoint-every', String(counts.checkpointEvery), '--checkpoint-every-ms', '200'],
  ];
  const within = await namespace();
  const start = () => Training.rxgrad(args, { within });
  const tally = {
    takeovers: 0,
    'at the same time': 0,
    'kills of the newer': 0,
    'kills of the older': 0,
    'ended by the error': 0,
  };
  const problems: string[] = [];

  async function ends(older: Training): Promise<void> {
    const code = await Promise.race([older.exit(), delay(endsWithinMs, 'still runs')]);
    if (code === refusedCode && older.said.includes(refusal)) tally['ended by the error'] += 1;
    else problems.push(`takeover ${tally.takeovers}: the older one ended with ${code}:\n${older.said.trim().slice(-500)}`);
    if (!older.ended) await older.kill();
  }

  const transport = embeddedLog(place.log, { synchronous: 'normal' });
  await transport.createTopic(topic);
  let sent = 0;
  let current: Training | null = null;
  try {
    while (tally.takeovers < counts.takeovers) {
      tally.takeovers += 1;
      const upTo = Math.floor((records.length * tally.takeovers) / counts.takeovers);
      await transport.produce(topic, records.slice(sent, upTo));
      sent = upTo;
      const older: Training | null = current;
      const newer = [start(), ...(random.chance(0.2) ? [start()] : [])];
      const fate = older ? random.share() : 1;
      if (fate < 0.2) {
        await delay(1000 * random.share());
        for (const one of newer) await one.kill();
        tally['kills of the newer'] += 1;
        // It may have taken over, or not.
        current = await survivorOf([older!], true);
        if (current === null) await ends(older!);
      } else {
        if (fate < 0.4) {
          await delay(1000 * random.share());
          if (await older!.kill()) tally['kills of the older'] += 1;
          else await ends(older!);
        } else if (older) {
          await Promise.race(newer.map((one) => one.says('goes on from version')));
          await ends(older);
        }
        if (newer.length > 1) tally['at the same time'] += 1;
        current = await survivorOf(newer, false);
        for (const one of newer) if (one !== current) await ends(one);
        if (!current) problems.push(`takeover ${tally.takeovers}: none of ${newer.length} that started goes on`);
      }
      if (tally.takeovers % 10 === 0) say(`owners: ${tally.takeovers} of ${counts.takeovers}`);
    }
    const last = Training.rxgrad([...args, '--until-end'], { within });
    await last.finished();
    if (current) await ends(current);
  } finally {
    await transport.close();
  }
  const whole = await wholeRun(place, topic, recorded, folder);
  const state = await readFile(file);
  problems.push(...differences(state, whole.state), ...misfits(state, recorded));
  return { counts: { ...tally, 'process ids': within.length > 0 ? 'each is 1' : 'shared: no right to unshare them' }, problems };
}

/** The one that goes on, once the others have ended. Null where none does, which only one that was left alone `mayEnd` as. */
async function survivorOf(trainings: readonly Training[], mayEnd: boolean): Promise<Training | null> {
  if (mayEnd) {
    // As long as one that was replaced takes to notice it.
    await Promise.race([trainings[0]!.exit(), delay(5_000)]);
  } else {
    const ready = trainings.map((one) => one.says('goes on from version'));
    await Promise.all(ready);
    const end = performance.now() + endsWithinMs;
    while (trainings.filter((one) => !one.ended).length > 1 && performance.now() < end) await delay(20);
  }
  return trainings.find((one) => !one.ended) ?? null;
}

/** The command in which a process sees no other one, where this user may have it. */
async function namespace(): Promise<string[]> {
  for (const rights of [[], ['--user', '--map-root-user']]) {
    const command = ['unshare', ...rights, '--pid', '--fork', '--kill-child'];
    const works = await exec(command[0]!, [...command.slice(1), 'true']).then(
      () => true,
      () => false,
    );
    if (works) return command;
  }
  return [];
}
