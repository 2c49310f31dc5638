// A process of its own: trains a topic up to its end, keeps what it leaves out as dead letters, and says what memory it has.
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { deadLetters, fromTransport, momentum, type Rejection } from 'rxgrad';
import { kafkaTransport } from 'rxgrad/kafka';
import { lastValueFrom, tap } from 'rxjs';
import { model } from '../test/chaos/valid-records.ts';
import type { FireSettings } from './mutations.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const perLine = 10_000;

const { brokers, topic, dead, folder } = JSON.parse(process.argv[2]!) as FireSettings;
const transport = kafkaTransport({ brokers: brokers.split(',') });
const params = model();
const letters = deadLetters(transport, { topic: dead });
let rejected = '';
const note = (): void => {
  appendFileSync(join(folder, 'rejected'), rejected);
  rejected = '';
};
const rejections = {
  ...letters,
  next(rejection: Rejection) {
    const { position, error, reason } = rejection;
    rejected += `${position!.offset} ${error.status} ${reason}\n`;
    if (rejected.length > 10_000) note();
    return letters.next(rejection);
  },
};
let events = 0;
await lastValueFrom(
  fromTransport(transport, { topic, from: 'beginning', until: 'end' }).pipe(
    tap(() => {
      events += 1;
      if (events % perLine !== 0) return;
      collectGarbage();
      const { heapUsed, external } = process.memoryUsage();
      console.log(`memory ${heapUsed + external}`);
    }),
    momentum(params, { lr: 0.1, rejections, maxRejectionsInARow: Number.POSITIVE_INFINITY }),
  ),
  { defaultValue: null },
);
note();
writeFileSync(join(folder, 'state.safetensors'), params.stateDict());
await transport.close();
