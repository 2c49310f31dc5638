import {
  accumulate,
  encodeEvent,
  epochBoundary,
  fromTransport,
  gradientBatch,
  memoryTransport,
  metricReport,
  type NewRecord,
  sgd,
  type TrainingEvent,
} from 'rxgrad';
import { lastValueFrom, type OperatorFunction, pipe, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { readTensorFile } from '../../src/params/tensor-file.ts';
import { model } from './batches.ts';

type Facts = { positions: [string, number, number][]; once: { sequences: [string, number][]; epoch: number } };
const bad: NewRecord = { value: Buffer.from('x'), headers: { ce_type: 'rxgrad.gradients.v1' } };
const sequenced = (sequence: number): NewRecord =>
  encodeEvent(gradientBatch({ gradients: { b: new Float32Array([1, 2, 3]) }, worker: 'w', sequence }));
const inPartition = (partition: number, records: NewRecord[]): NewRecord[] => records.map((one) => ({ ...one, partition }));

/** The facts of the state at each update. */
async function factsAlong(records: NewRecord[], stages: OperatorFunction<TrainingEvent, TrainingEvent>): Promise<Facts[]> {
  const transport = memoryTransport();
  await transport.createTopic('g', { partitions: 2 });
  await transport.produce('g', records);
  const params = model();
  const seen: Facts[] = [];
  const updates$ = fromTransport(transport, { topic: 'g', partitions: 'any-order', from: 'beginning', until: 'end' }).pipe(
    stages,
    sgd(params, { lr: 0.1 }),
    tap(() => seen.push(factsNow())),
  );
  await lastValueFrom(updates$, { defaultValue: null });
  seen.push(factsNow());
  return seen;

  function factsNow(): Facts {
    return JSON.parse(readTensorFile(params.stateDict()).metadata['rxgrad.state']!) as Facts;
  }
}

describe('the positions in a state', () => {
  it('contain each batch when its update arrives, and whatever else came before', async () => {
    const records = [
      sequenced(1),
      bad,
      encodeEvent(metricReport({ name: 'm', value: 1 })),
      encodeEvent(epochBoundary(1)),
      sequenced(2),
    ];
    const facts = await factsAlong(records, pipe());
    expect(facts.map(({ positions }) => positions)).toEqual([[['g', 0, 1]], [['g', 0, 5]], [['g', 0, 5]]]);
  });

  it('contain what came behind the last update', async () => {
    const facts = await factsAlong([sequenced(1), sequenced(1), bad], pipe());
    expect(facts.map(({ positions }) => positions)).toEqual([[['g', 0, 1]], [['g', 0, 3]]]);
  });

  it('contain all parts of a merged batch, and nothing that waits to be merged', async () => {
    const parts = [...inPartition(0, [sequenced(1), bad, sequenced(2)]), ...inPartition(1, [sequenced(3)])];
    const facts = await factsAlong(parts, accumulate(3));
    expect(new Map(facts.at(-1)!.positions.map(([, partition, next]) => [partition, next]))).toEqual(
      new Map([
        [0, 3],
        [1, 1],
      ]),
    );
  });
});
