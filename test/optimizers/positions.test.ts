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
import { bufferCount, concatMap, lastValueFrom, type OperatorFunction, pipe, tap } from 'rxjs';
import { describe, expect, it, vi } from 'vitest';
import { readTensorFile } from '../../src/params/tensor-file.ts';
import { model } from './batches.ts';

type Facts = { positions: [string, number, number][]; once: { sequences: [string, number][]; epoch: number } };
const bad: NewRecord = { value: Buffer.from('x'), headers: { ce_type: 'rxgrad.gradients.v1' } };
const sequenced = (sequence: number): NewRecord =>
  encodeEvent(gradientBatch({ gradients: { b: new Float32Array([1, 2, 3]) }, worker: 'w', sequence }));
const inPartition = (partition: number, records: NewRecord[]): NewRecord[] => records.map((one) => ({ ...one, partition }));

describe('an operator that changes the order of a partition', () => {
  async function warningsOf(stages: OperatorFunction<TrainingEvent, TrainingEvent>): Promise<(string | undefined)[]> {
    const heard: (string | undefined)[] = [];
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation((message, options) => {
      if ((options as { code?: string })?.code === 'RXGRAD_ORDER_CHANGED') heard.push(String(message).split(' ')[0]);
    });
    const metric = encodeEvent(metricReport({ name: 'loss', value: 1 }));
    await factsAlong(
      [...inPartition(0, [0, 1, 2, 3].map(sequenced)), ...inPartition(1, [sequenced(0), metric, bad, sequenced(1)])],
      stages,
    );
    warn.mockRestore();
    return heard;
  }

  it('is told of, since a crash could lose what it holds', async () => {
    expect(
      await warningsOf(
        pipe(
          bufferCount(2),
          concatMap((pair) => pair.reverse()),
        ),
      ),
    ).toEqual(['g/0@0']);
    expect(
      await warningsOf(
        pipe(
          accumulate(2),
          bufferCount(2),
          concatMap((pair) => pair.reverse()),
        ),
      ),
    ).toHaveLength(1);
  });

  it.each([1, 2, 3])('is not accumulate(%i)', async (k) => {
    expect(await warningsOf(accumulate(k, { applyAtEnd: true }))).toEqual([]);
    expect(await warningsOf(pipe(accumulate(k), accumulate(2)))).toEqual([]);
  });
});

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
