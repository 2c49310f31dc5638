import {
  accumulate,
  encodeEvent,
  epochBoundary,
  gradientBatch,
  memoryTransport,
  metricReport,
  momentum,
  type NewRecord,
  Parameters,
  type ScanOptions,
  type TrainingEvent,
} from 'rxgrad';
import { filter, type OperatorFunction, pipe } from 'rxjs';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { readTensorFile } from '../../src/params/tensor-file.ts';
import { expectSame, type Program, run, topic } from '../law/runs.ts';

const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
beforeEach(() => void warn.mockClear());

const part = (sequence: number, value: number, name = 'w'): NewRecord =>
  encodeEvent(gradientBatch({ gradients: { [name]: Float32Array.of(value, -value) }, worker: 'a', sequence }));
const loss = (value: number): NewRecord => encodeEvent(metricReport({ name: 'loss', value }));
const epoch = (number: number): NewRecord => encodeEvent(epochBoundary(number));

async function programOf(
  records: readonly NewRecord[],
  stages: OperatorFunction<TrainingEvent, TrainingEvent> = accumulate(2),
  lr: ScanOptions['lr'] = 0.1,
): Promise<Program> {
  const transport = memoryTransport();
  await transport.createTopic(topic);
  await transport.produce(topic, records);
  return {
    transport,
    model: () => Parameters.create({ w: { dims: [2], data: [1, 2] } }),
    stages: () => stages,
    scan: (params, own) => momentum(params, { lr: lr!, momentum: 0.9, ...own }),
  };
}

/** Goes on from each state that a crash may leave. Returns the uninterrupted run. */
async function fromEachState(program: Program) {
  const whole = await run(program, null);
  for (const snapshot of whole.snapshots) expectSame(await run(program, snapshot), whole, snapshot);
  return whole;
}

describe('a run that merges batches goes on with the same bits', () => {
  it('where a metric came between the parts of a batch', async () => {
    const epochs = [0, 1, 2, 3].flatMap((n) => [part(2 * n, n + 1), loss(1), part(2 * n + 1, 1), epoch(n)]);
    const plateau = { type: 'ReduceLROnPlateau', baseLr: 0.1, patience: 1 } as const;
    const { updates } = await fromEachState(await programOf(epochs, accumulate(2), plateau));
    expect(updates.map(({ lr }) => lr)).toEqual([0.1, 0.1, 0.1, expect.closeTo(0.01)]);
  });

  it('where a merged batch was rejected, and a part of it comes again', async () => {
    const records = [part(0, 1), part(1, 1, 'nobody'), part(0, 1), part(1, 2), part(2, 3), part(3, 4), part(0, 1)];
    const { updates, rejections } = await fromEachState(await programOf(records));
    expect(updates).toHaveLength(1);
    expect(rejections.map(({ offset, reason }) => `${offset} ${reason}`)).toEqual([
      '1 unknownParameter',
      '2 duplicate',
      '3 duplicate',
      '6 duplicate',
    ]);
  });

  it('where sequences jump within a merged batch, and one in between comes late', async () => {
    const records = [10, 1511, 1034, 1512, 1513, 1514].map((sequence) => part(sequence, 1));
    const { updates, rejections } = await fromEachState(await programOf(records));
    expect(updates).toHaveLength(3);
    expect(rejections).toEqual([]);
  });

  it('where a stage dropped a merged batch', async () => {
    const records = [part(0, 1), part(1, 1), part(2, 1), part(3, 1), part(0, 7), part(1, 7), part(4, 1), part(5, 1)];
    const dropped = pipe(
      accumulate(2),
      filter((event: TrainingEvent) => event.delivery?.position.offset !== 1),
    );
    const { updates, rejections } = await fromEachState(await programOf(records, dropped));
    expect(updates).toHaveLength(2);
    expect(rejections.map(({ offset }) => offset)).toEqual([4, 5]);
  });

  it('where an epoch ends after one part, and where it was already over', async () => {
    const records = [part(0, 1), epoch(0), part(1, 2), epoch(0), part(2, 3), part(3, 4), epoch(1)];
    const { updates } = await fromEachState(await programOf(records));
    expect(updates).toHaveLength(3);
  });

  it.each([0, 1, 2, 3, 4, 5])('where it was stopped before offset %i', async (offset) => {
    const program = await programOf([part(0, 1), loss(3), part(1, 2), part(2, 3), part(3, 4), part(4, 5)]);
    const whole = await run(program, null);
    const stopped = await run(program, null, { offsets: new Map([[0, offset]]) });
    const end = stopped.snapshots.at(-1)!;
    expectSame(await run(program, end), whole, end);
  });

  it('and applies what is left at an end only where it is told to, which the state says', async () => {
    const records = [part(0, 1), part(1, 2), part(2, 3)];
    const left = await run(await programOf(records), null);
    expect(left.updates).toHaveLength(1);
    expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('1 of 2 batches, from gradients/0@2 on'), {
      code: 'RXGRAD_PARTS_LEFT',
    });
    const applied = await run(await programOf(records, accumulate(2, { applyAtEnd: true })), null);
    expect(applied.updates).toHaveLength(2);
    const facts = JSON.parse(readTensorFile(applied.params.stateDict()).metadata['rxgrad.state']!);
    expect(facts.stages).toEqual([['accumulate', { size: 2, applyAtEnd: true }]]);
  });

  it('with the same stages, also where a lone part was the last that was applied; others are refused', async () => {
    const program = await programOf([part(0, 1), epoch(0), part(1, 2), part(2, 3)]);
    const { snapshots } = await run(program, null);
    const lone = snapshots.find(({ version }) => version === 1)!;
    const other = { ...program, stages: () => accumulate(3, { applyAtEnd: true }) };
    expect((await run(other, lone)).error).toBe('RXGRAD_PARAMETERS_DIFFER');
    expect((await run(program, lone)).error).toBeNull();
  });
});
