import { randomUUID } from 'node:crypto';
import { from } from 'rxjs';
import { describe, expect, inject, it } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { bitsOf, model, playThrough, recordedLog, rule } from './one-log.ts';

const brokers = inject('brokers');

describe.skipIf(!brokers)('a recorded log on Kafka', () => {
  it('gives the same bits as without a log', async (t) => {
    const transport = kafkaTransport({ brokers: brokers!.split(',') });
    t.onTestFinished(() => transport.close());
    const params = model();
    from(recordedLog()).pipe(rule(params)).subscribe();
    expect(await playThrough(transport, `one-log-${randomUUID()}`)).toEqual(bitsOf(params));
  });
});
