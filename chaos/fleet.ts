import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FileCheckpoints } from '../src/index.ts';
import { readTensorFile } from '../src/params/tensor-file.ts';
import { fleetLog } from './fleet-log.ts';
import type { Ground, Outcome } from './ground.ts';
import { differences, misfits } from './state.ts';
import { filledTopic, withTransport } from './topics.ts';
import { Training } from './training.ts';
import { runArguments, wholeRun } from './whole-run.ts';

export interface FleetCounts {
  readonly workers: number;
  readonly batchesEach: number;
  readonly kills: number;
  readonly checkpointEvery: number;
}

export const full: FleetCounts = { workers: 100_000, batchesEach: 4, kills: 5, checkpointEvery: 20_000 };

/**
 * Trains with what a fleet of workers sends, out of order and twice, and kills the training in the middle. What counts is known
 * beforehand, and the state is that of a run that nothing happened to.
 */
export default async function fleet(ground: Ground, counts: FleetCounts = full): Promise<Outcome> {
  const { workers, batchesEach, checkpointEvery } = counts;
  const { random, folder, say } = ground;
  const brokers = await ground.brokers();
  const log = fleetLog(random.below(2 ** 31), workers, batchesEach);
  say(`fleet: ${log.records.length} records of ${workers} workers, ${log.batches} of which count`);
  return withTransport(brokers, async (transport) => {
    const topic = await filledTopic(transport, log.records);
    const whole = await wholeRun(brokers, topic, log, folder);
    const file = join(folder, 'state.safetensors');
    const checkpoints = join(folder, 'checkpoints');
    const args = [
      ...runArguments(brokers, topic, file),
      ...['--until-end', '--checkpoints', checkpoints, '--checkpoint-every', `${checkpointEvery}`],
    ];
    let kills = 0;
    for (let left = counts.kills; left > 0; left--) {
      const run = Training.rxgrad(args);
      await run.says('goes on from version');
      await Promise.race([delay((random.share() * whole.trainingMs) / counts.kills), run.exit()]);
      if (!(await run.kill())) break;
      kills += 1;
    }
    await Training.rxgrad(args).finished();
    const state = await readFile(file);
    const store = new FileCheckpoints(checkpoints);
    const [newest] = await store.list();
    const { arrays } = readTensorFile(await store.read(newest!.version));
    const seen = Object.values(arrays).reduce((bytes, { byteLength }) => bytes + byteLength, 0);
    return {
      counts: {
        records: log.records.length,
        'that count': log.batches,
        workers,
        kills,
        'bytes of a checkpoint': newest!.bytes,
        'of them for workers': seen,
      },
      problems: [...differences(state, whole.state), ...misfits(state, log)],
    };
  });
}
