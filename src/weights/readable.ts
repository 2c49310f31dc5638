import { RxgradError } from '../errors.ts';
import type { TopicRecord } from '../sources/transport.ts';
import { readWeightsFile } from './weights-file.ts';
import { parseWeightsHeader } from './weights-header.ts';
import { headerOf } from './weights-record.ts';

/** Fails where no replica would take a record: before it takes the place of one that they can read. */
export function assertReadable({ topic, key, value, headers = {} }: TopicRecord): void {
  const where = `${topic}, "${String(key)}"`;
  const record = { headers, offset: 0, key: null, value: null, timestampMs: 0 };
  if (headerOf(record, 'ce_subject') === undefined) {
    throw new RxgradError('undecodable', { where, expected: 'a shorter name of the model', got: 'one that is not read' });
  }
  const parsed = parseWeightsHeader(headerOf(record, 'ce_weights') ?? '');
  if ('problem' in parsed) throw new RxgradError('undecodable', { where, expected: 'weights to publish', got: parsed.problem });
  const file = readWeightsFile(value!);
  if (typeof file === 'function') throw file(where);
}
