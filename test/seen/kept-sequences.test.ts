import { encodeEvent, gradientBatch, Parameters, type Rejection, sgd } from 'rxgrad';
import { from, lastValueFrom } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { readFacts } from '../../src/checkpoints/checkpoint-file.ts';
import { lastSeen, Once } from '../../src/once.ts';
import { planTensorFile, readTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import { EventDecoder } from '../../src/sources/codec.ts';

const model = (): Parameters => Parameters.create({ w: { dims: [1] } });
const record = (worker: string, sequence: number, partition = 0) => ({
  ...encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(1) }, worker, sequence })),
  partition,
});

/** Trains on records as a log would deliver them, and returns the reasons of what was left out. */
async function train(params: Parameters, records: ReturnType<typeof record>[]): Promise<string[]> {
  const decoder = new EventDecoder();
  const source = { done: () => {} };
  const events = records.map(({ partition, headers, value }, offset) => {
    const read = { offset, key: null, value, headers: headers!, timestampMs: 0 };
    return decoder.decode(read, { position: { topic: 'g', partition, offset }, source, record: read });
  });
  const left: Rejection[] = [];
  const rejections = { next: (rejection: Rejection) => void left.push(rejection) };
  await lastValueFrom(from(events).pipe(sgd(params, { lr: 0.1, rejections })), { defaultValue: null });
  return left.map(({ reason, worker, sequence }) => `${reason} ${worker} ${sequence}`);
}

/** A state with the metadata and the arrays that a change makes of its own. */
function changed(
  state: Uint8Array,
  change: (facts: Record<string, unknown>, arrays: Record<string, unknown>) => void,
): Uint8Array {
  const { tensors, arrays, metadata } = readTensorFile(state);
  const facts = JSON.parse(metadata['rxgrad.state']!) as Record<string, unknown>;
  const others: Record<string, unknown> = { ...arrays };
  change(facts, others);
  return writeTensorFile(
    planTensorFile(tensors, { ...metadata, 'rxgrad.state': JSON.stringify(facts) }, others as typeof arrays),
  );
}

describe('sequences in a state', () => {
  const sent = [record('v', 3), record('w', 7), record('w', 5), record('v', 3, 1)];

  it('are columns that go on', async () => {
    const params = model();
    expect(await train(params, sent)).toEqual([]);
    const state = params.stateDict();
    const { arrays, metadata } = readTensorFile(state);
    expect(JSON.parse(metadata['rxgrad.state']!)).toMatchObject({
      once: {
        epoch: -1,
        partitions: [
          ['g', 0],
          ['g', 1],
        ],
      },
    });
    expect(arrays['seen.highest']).toEqual(BigInt64Array.of(3n, 7n, 3n));
    expect(arrays['seen.ids']).toEqual(Uint8Array.from(Buffer.from('vwv')));
    expect(lastSeen(readFacts(state, 'state').seen!).map(({ worker, highest }) => [worker, highest])).toEqual([
      ['v', 3],
      ['w', 7],
      ['v', 3],
    ]);
    const next = model();
    next.loadStateDict(state);
    expect(await train(next, [...sent, record('w', 6), record('w', 3, 1)])).toEqual([
      'duplicate v 3',
      'duplicate w 7',
      'duplicate w 5',
      'duplicate v 3',
    ]);
    expect(next.version).toBe(6);
  });

  it('are read from older files, where all below the last one count as seen in each partition', async () => {
    const params = model();
    await train(params, sent);
    const older = changed(params.stateDict(), (facts, arrays) => {
      facts.once = {
        sequences: [
          ['v', 3],
          ['w', 7],
        ],
        epoch: -1,
      };
      for (const name of Object.keys(arrays)) delete arrays[name];
    });
    const next = model();
    next.loadStateDict(older);
    expect(await train(next, [record('w', 2), record('w', 8), record('v', 3, 1), record('w', 7, 1)])).toEqual([
      'duplicate w 2',
      'duplicate v 3',
      'duplicate w 7',
    ]);
  });

  it.each<[string, (arrays: Record<string, unknown>) => void]>([
    ['a column less', (arrays) => delete arrays['seen.runs']],
    [
      'a column that is too short',
      (arrays) => {
        arrays['seen.words'] = new Uint8Array(1);
      },
    ],
    [
      'a column of another type',
      (arrays) => {
        arrays['seen.highest'] = new Int32Array(3);
      },
    ],
    [
      'ids that are too short',
      (arrays) => {
        arrays['seen.ids'] = new Uint8Array(2);
      },
    ],
    [
      'a partition that is none',
      (arrays) => {
        arrays['seen.partitions'] = Int32Array.of(0, 0, 7);
      },
    ],
    [
      'lengths below zero',
      (arrays) => {
        arrays['seen.idBytes'] = Int16Array.of(4, -1, 0);
      },
    ],
    [
      'bits that are too few',
      (arrays) => {
        arrays['seen.bits'] = new Int32Array(0);
      },
    ],
  ])('are refused with %s', async (_, damage) => {
    const params = model();
    await train(params, sent);
    const damaged = changed(params.stateDict(), (_, arrays) => damage(arrays));
    const next = model();
    next.loadStateDict(damaged);
    await expect(train(next, [])).rejects.toMatchObject({ code: 'RXGRAD_INVALID_CHECKPOINT' });
  });

  it('go on where a worker’s id is no UTF-8', () => {
    const once = new Once();
    const batch = gradientBatch({ gradients: { w: Float32Array.of(1) }, worker: 'Jos\udce9', sequence: 1 });
    once.applied(batch);
    const again = new Once();
    again.restore(once.state());
    expect(again.refuse(batch)?.key).toBe('duplicate');
  });

  it('leave no room for parameters of such names', async () => {
    expect(() => Parameters.create({ 'rxgrad.seen.ids': { dims: [1] } })).toThrow('does not begin with "rxgrad."');
    const params = model();
    await lastValueFrom(from([gradientBatch({ gradients: { w: Float32Array.of(1) } })]).pipe(sgd(params, { lr: 0.1 })));
    expect(readTensorFile(params.stateDict()).arrays).toEqual({});
  });
});
