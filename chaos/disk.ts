import { execFile } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type CheckpointStore, FileCheckpoints, KafkaCheckpoints } from '../src/index.ts';
import type { Ground, Outcome } from './ground.ts';
import type { Random } from './random.ts';
import { recordedLog } from './recorded-log.ts';
import { differences, misfits } from './state.ts';
import { filledTopic, withTransport } from './topics.ts';
import { Training, type TrainingOptions } from './training.ts';
import { runArguments, wholeRun } from './whole-run.ts';

const exec = promisify(execFile);

export interface DiskCounts {
  readonly batches: number;
  /** How often each of the things happens. */
  readonly times: number;
}

export const full: DiskCounts = { batches: 20_000, times: 5 };

const tried = 'The checkpoints before it stay; the next one is tried';
const skipped = 'The one before it is tried';
// Room for the checkpoint that a run begins with, and none for those that hold what the optimizer keeps.
const fileBlocks = 4;
// And for one more.
const fewPages = 8192;

/** Fills the disk while checkpoints are written, and damages the newest: the run says so, and goes on from the one before. */
export default async function disk(ground: Ground, { batches, times }: DiskCounts = full): Promise<Outcome> {
  const { random, folder, say } = ground;
  const brokers = await ground.brokers();
  const log = recordedLog(random.below(2 ** 31), batches);
  const counts: Record<string, number | string> = {};
  const problems: string[] = [];
  const file = join(folder, 'state.safetensors');

  await withTransport(brokers, async (transport) => {
    const topic = await filledTopic(transport, log.records);
    const whole = await wholeRun(brokers, topic, log, folder);
    const every = ['--until-end', '--checkpoint-every', String(Math.floor(batches / 40))];
    const start = (store: readonly string[], options: TrainingOptions = {}) =>
      Training.rxgrad([...runArguments(brokers, topic, file), ...every, ...store], options);

    function expectSaid(what: string, said: string, expected: readonly string[]): void {
      problems.push(...expected.filter((text) => !said.includes(text)).map((text) => `${what}: not said: ${text}\n${said}`));
    }
    async function endsWell(what: string, store: readonly string[], expected: readonly string[]): Promise<void> {
      expectSaid(what, await start(store).finished(), expected);
      const state = await readFile(file);
      problems.push(...[...differences(state, whole.state), ...misfits(state, log)].map((text) => `${what}: ${text}`));
      counts[what] = Number(counts[what] ?? 0) + 1;
      say(`disk: ${what} (${counts[what]} of ${times})`);
    }

    for (let time = 0; time < times; time++) {
      const limited = ['--checkpoints', join(folder, `limited-${time}`)];
      const run = start(limited, { fileBlocks });
      if ((await run.exit()) === 0) problems.push('no room in a file: the run ended as if all had been written');
      expectSaid('no room in a file', run.said, [tried, 'EFBIG']);
      await endsWell('no room in a file', limited, ['goes on from version 0 ']);
    }

    const small = join(folder, 'small');
    await mkdir(small);
    const mount = (options: string) => exec('mount', ['-t', 'tmpfs', '-o', options, 'rxgrad-chaos', small]);
    for (let time = 0; time < times; time++) {
      try {
        await mount(`size=${fewPages}`);
      } catch (error) {
        counts['no room on the disk'] = `not run: ${(error as Error).message.trim().split('\n').at(-1)}`;
        break;
      }
      try {
        const store = ['--checkpoints', join(small, 'checkpoints')];
        const run = start(store);
        await run.exit();
        expectSaid('no room on the disk', run.said, [tried, 'ENOSPC']);
        const [newest] = await new FileCheckpoints(join(small, 'checkpoints')).list();
        await mount('remount,size=1m');
        await endsWell('no room on the disk', store, [`goes on from version ${newest!.version} `]);
      } finally {
        await exec('umount', [small]);
      }
    }

    const kept = join(folder, 'kept');
    const checkpointTopic = `${topic}-checkpoints`;
    const stores: readonly [string, readonly string[], CheckpointStore][] = [
      ['folder', ['--checkpoints', kept], new FileCheckpoints(kept)],
      ['topic', ['--checkpoint-topic', checkpointTopic], new KafkaCheckpoints(transport, { topic: checkpointTopic })],
    ];
    for (const [name, args, store] of stores) {
      await start(args).finished();
      for (const [damage, damaged] of Object.entries(damages)) {
        for (let time = 0; time < times; time++) {
          await store.takeOver?.();
          const versions = (await store.list()).map(({ version }) => version);
          const bad = versions.slice(0, 1 + random.below(Math.min(3, versions.length - 1)));
          const sound = await Promise.all(bad.map(async (version) => [version, await store.read(version)] as const));
          for (const [version, checkpoint] of sound) await store.write(version, damaged(checkpoint, random));
          const warnings = bad.map((version) => `${store.name}, version ${version}: expected`);
          await endsWell(`${damage} in a ${name}`, args, [...warnings, skipped, `goes on from version ${versions[bad.length]} `]);
          // What stays damaged would be passed over in the next round, too.
          await store.takeOver?.();
          for (const [version, checkpoint] of sound) await store.write(version, checkpoint);
        }
      }
    }
  });
  return { counts, problems };
}

const damages: Readonly<Record<string, (file: Uint8Array, random: Random) => Uint8Array>> = {
  'truncated checkpoint': (file, random) => file.subarray(0, random.below(file.byteLength)),
  'flipped bit': (file, random) => {
    const changed = Uint8Array.from(file);
    changed[random.below(file.byteLength)]! ^= 1 << random.below(8);
    return changed;
  },
};
