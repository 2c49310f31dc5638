import type { KafkaMessage } from 'kafkajs';
import { expect, it } from 'vitest';
import { EventDecoder } from '../../../src/sources/codec.ts';
import { logRecords } from '../../../src/sources/kafka/log-records.ts';

const fetched = (headers: Record<string, unknown>): KafkaMessage =>
  ({ offset: '7', key: null, value: null, timestamp: '5', attributes: 0, headers }) as unknown as KafkaMessage;

it('takes the last of several headers, and a header without a value for one without bytes', () => {
  const headers = { twice: [Buffer.from('a'), Buffer.from('b')], none: null, last: [Buffer.from('a'), null], ce_type: null };
  const [record] = logRecords([fetched(headers)], 0);
  const nothing = Buffer.alloc(0);
  expect(record!.headers).toEqual({ twice: Buffer.from('b'), none: nothing, last: nothing, ce_type: nothing });
  const delivery = { position: { topic: 'g', partition: 0, offset: 7 }, source: { done() {} }, record };
  expect(new EventDecoder().decode(record!, delivery)).toMatchObject({ kind: 'rejection', reason: 'undecodable' });
});
