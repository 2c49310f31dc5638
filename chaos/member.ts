// A process of its own: trains the partitions that its group gives it, and writes the state of each one that it brings to its end.
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipe, tap } from 'rxjs';
import { checkpoint, KafkaCheckpoints, trainPartitions } from '../src/index.ts';
import { kafkaTransport } from '../src/sources/kafka/index.ts';
import { initialParameters, type MemberSettings, rule } from './members.ts';

const settings = JSON.parse(process.argv[2]!) as MemberSettings;
const { brokers, topic, group, checkpoints, folder, batches, checkpointEvery, checkpointEveryMs } = settings;
const transport = kafkaTransport({ brokers: brokers.split(',') });
const subscription = trainPartitions(transport, {
  topic,
  group,
  params: initialParameters,
  store: (partition) =>
    new KafkaCheckpoints(transport, {
      topic: checkpoints,
      model: `model-${partition}`,
      transactionalId: `${checkpoints}-${partition}`,
    }),
  train({ partition, params, store }) {
    console.log(`begins ${partition} at version ${params.version}.`);
    return pipe(
      rule(params),
      tap(({ version }) => {
        if (version % 100 === 0) console.log(`${partition} is at version ${version}.`);
        if (version !== batches[partition]) return;
        const file = join(folder, `state-${partition}-${process.pid}.safetensors`);
        writeFileSync(`${file}.part`, params.stateDict());
        renameSync(`${file}.part`, file);
        console.log(`finished ${partition}.`);
      }),
      checkpoint(store, {
        everySteps: checkpointEvery,
        ...(checkpointEveryMs === undefined ? {} : { everyMs: checkpointEveryMs }),
      }),
    );
  },
}).subscribe({
  error(error: Error) {
    console.error(error.stack);
    process.exit(1);
  },
});
process.once('SIGTERM', async () => {
  subscription.unsubscribe();
  await transport.close();
});
