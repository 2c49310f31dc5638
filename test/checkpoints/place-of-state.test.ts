import {
  type CheckpointStore,
  clipByValue,
  encodeEvent,
  epochBoundary,
  fromTransport,
  gradientBatch,
  memoryTransport,
  metricReport,
  type NewRecord,
  Parameters,
  placeOfState,
  recover,
  sgd,
  type Transport,
} from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, readFacts } from '../../src/checkpoints/checkpoint-file.ts';

const topic = 'gradients';
const model = (): Parameters => Parameters.create({ w: { dims: [2] } });

function gradient(sequence: number): NewRecord {
  return encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(sequence, 1) }, worker: 'a', sequence }));
}

/** Gradients with metrics between them, on which a plateau's rate depends, and ends of epochs. */
function records(count: number): NewRecord[] {
  return Array.from({ length: count }, (_, i) => {
    if (i % 4 === 3) return encodeEvent(epochBoundary(i));
    return i % 4 === 2 ? encodeEvent(metricReport({ name: 'loss', value: i % 8 })) : gradient(i);
  });
}

async function logOf(...all: NewRecord[]): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic(topic);
  await transport.produce(topic, all);
  return transport;
}

async function train(params: Parameters, transport: Transport, source: object): Promise<Uint8Array> {
  const lr = { type: 'ReduceLROnPlateau', baseLr: 1, patience: 0, metric: 'loss' } as const;
  const updates$ = fromTransport(transport, { topic, until: 'end', ...source }).pipe(sgd(params, { lr }));
  await lastValueFrom(updates$, { defaultValue: null });
  return params.stateDict();
}

describe('a state dict', () => {
  it('goes on where it ended: what it contains is not counted again', async () => {
    const transport = await logOf(...records(30));
    const half = await train(model(), transport, {});
    await transport.produce(topic, records(60).slice(30));
    const place = (await placeOfState(half, { transport, topic }))!;
    expect(place.from).toEqual(new Map([[0, 30]]));
    const params = model();
    params.loadStateDict(half);
    expect(await train(params, transport, place)).toEqual(await train(model(), transport, {}));
  });

  it('says nothing of a topic that it was not trained on, nor does what others wrote', async () => {
    const transport = await logOf(gradient(1));
    const state = await train(model(), transport, {});
    expect(await placeOfState(state, { transport, topic: 'other' })).toBeNull();
    const header = Buffer.from(JSON.stringify({ w: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }).padEnd(64));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(64n);
    expect(await placeOfState(Buffer.concat([length, header, Buffer.alloc(8)]), { transport, topic })).toBeNull();
  });

  it('that was loaded is gone on from where the store is empty', async () => {
    const transport = await logOf(...records(30));
    const half = await train(model(), transport, {});
    await transport.produce(topic, records(60).slice(30));
    const params = model();
    params.loadStateDict(half);
    const files = new Map<number, Uint8Array>();
    const store = {
      name: 'store',
      list: async () => [],
      read: async (version: number) => files.get(version)!,
      write: async (version: number, file: Uint8Array) => void files.set(version, file.slice()),
    } as Partial<CheckpointStore> as CheckpointStore;
    const { source } = await recover(params, store, { transport, topic });
    expect(source.from).toEqual(new Map([[0, 30]]));
    expect(openCheckpoint(files.get(params.version)!, '').positions).toEqual([[topic, 0, 30]]);
    expect(await train(params, transport, source)).toEqual(await train(model(), transport, {}));
  });

  it('says nothing of stages that may have changed, until a batch has come through them', async () => {
    const transport = await logOf(gradient(0), gradient(1));
    const state = async (params: Parameters, source: object): Promise<Uint8Array> => {
      const events$ = fromTransport(transport, { topic, until: 'end', ...source });
      await lastValueFrom(events$.pipe(clipByValue(0.5), sgd(params, { lr: 1 })), { defaultValue: null });
      return params.stateDict();
    };
    const first = await state(model(), {});
    expect(readFacts(first, '').stages).toEqual([['clipByValue', 0.5]]);
    await transport.produce(topic, [encodeEvent(metricReport({ name: 'loss', value: 1 }))]);
    const params = model();
    params.loadStateDict(first);
    const second = await state(params, (await placeOfState(first, { transport, topic }))!);
    expect(readFacts(second, '')).toMatchObject({ steps: 2, stages: null });
    const exact = model();
    exact.loadStateDict(first, { exact: true });
    expect(readFacts(await state(exact, { from: new Map([[0, 2]]) }), '').stages).toEqual([['clipByValue', 0.5]]);
  });

  it('does not go on in another log of the same name', async () => {
    const state = await train(model(), await logOf(gradient(1)), {});
    await expect(placeOfState(state, { transport: await logOf(gradient(2)), topic })).rejects.toMatchObject({ key: 'otherLog' });
  });
});
