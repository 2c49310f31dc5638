import { Worker } from 'node:worker_threads';
import { Parameters } from 'rxgrad';
import { beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { openCheckpoint } from '../../src/checkpoints/checkpoint-file.ts';
import { Sealer, type SealingTask } from '../../src/checkpoints/sealer.ts';
import { checkpointOf } from './courses.ts';

let sealer: Sealer;
beforeEach(() => {
  sealer = new Sealer();
  onTestFinished(() => sealer.close());
});

const modelOf = (length: number, fill = 1) =>
  Parameters.create({ w: { dims: [length], data: new Float32Array(length).fill(fill) }, b: { dims: [2], data: [3, 4] } });
const large = 300_000;

it.each([4, large])('makes the file of a model of %i numbers, each time', async (length) => {
  for (const fill of [1, 2]) {
    const params = modelOf(length, fill);
    const sealed = await sealer.seal(params);
    expect(openCheckpoint(sealed.slice(), 'here').version).toBe(0);
    const read = Parameters.fromStateDict(sealed.slice());
    expect([...read.get('b').data, read.get('w').data.at(-1), read.get('w').data[0]]).toEqual([3, 4, fill, fill]);
    expect(sealed.byteLength).toBeGreaterThan(checkpointOf(params).byteLength);
  }
});

it('makes files of models of other sizes one after the other', async () => {
  for (const length of [10, 1000, 4, large, 4]) {
    expect(openCheckpoint((await sealer.seal(modelOf(length))).slice(), 'here').version).toBe(0);
  }
});

it('keeps steps waiting for the copy of a large model, and of no small one', async () => {
  const held: Promise<void>[] = [];
  const sealing = (params: Parameters) => {
    vi.spyOn(params.seat, 'hold').mockImplementation((until) => void held.push(until));
    return sealer.seal(params);
  };
  await sealing(modelOf(1000));
  expect(held).toEqual([]);
  const sealed = sealing(modelOf(large));
  expect(held).toHaveLength(1);
  await held[0];
  await sealed;
});

it('does not copy later what the thread would get a copy of', async () => {
  const params = modelOf(large);
  const plan = params.planStateDict.bind(params);
  vi.spyOn(params, 'planStateDict').mockImplementation((metadata) => {
    const { parts, ...planned } = plan(metadata);
    return { ...planned, parts: parts.map((part) => ({ ...part, data: part.data.slice() as typeof part.data })) };
  });
  const posted = vi.spyOn(Worker.prototype, 'postMessage');
  onTestFinished(() => void posted.mockRestore());
  const sealed = await sealer.seal(params);
  expect(posted.mock.calls[0]![0]).toMatchObject({ parts: [] });
  expect(Parameters.fromStateDict(sealed.slice()).get('w').data[7]).toBe(1);
});

it('leaves the copy of a large model to its thread', async () => {
  const { postMessage } = Worker.prototype;
  const found: number[] = [];
  const posting = vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (this: Worker, task: SealingTask) {
    for (const { at } of task.parts) found.push(new Uint8Array(task.file, at, 4).reduce((sum, byte) => sum + byte));
    postMessage.call(this, task);
  });
  onTestFinished(() => void posting.mockRestore());
  const sealed = await sealer.seal(modelOf(large));
  expect(found).toEqual([0, 0]);
  expect(Parameters.fromStateDict(sealed.slice()).get('w').data[large - 1]).toBe(1);
});

it('fails where its thread ends, and starts another one for the next file', async () => {
  const posting = vi.spyOn(Worker.prototype, 'postMessage').mockImplementationOnce(function (this: Worker) {
    void this.terminate();
  });
  onTestFinished(() => void posting.mockRestore());
  const params = modelOf(large);
  await expect(sealer.seal(params)).rejects.toThrow('the thread that makes checkpoints ended');
  // Nobody steps in vain for a copy that will never be.
  await params.seat.held;
  expect(openCheckpoint((await sealer.seal(params)).slice(), 'here').version).toBe(0);
});

it('lets a process end while nothing is made, and not before', async () => {
  const [ref, unref, ended] = [
    vi.spyOn(Worker.prototype, 'ref'),
    vi.spyOn(Worker.prototype, 'unref'),
    vi.spyOn(Worker.prototype, 'terminate'),
  ];
  onTestFinished(() => [ref, unref, ended].forEach((spy) => void spy.mockRestore()));
  const own = new Sealer();
  await own.close();
  for (let files = 1; files <= 2; files++) {
    const sealed = own.seal(modelOf(4));
    expect([ref.mock.calls.length, unref.mock.calls.length]).toEqual([files, files - 1]);
    await sealed;
    expect(unref).toHaveBeenCalledTimes(files);
  }
  const worker = unref.mock.contexts[0] as Worker;
  expect(unref.mock.contexts[1]).toBe(worker);
  const listeners = () => ['message', 'error', 'exit'].map((event) => worker.listenerCount(event));
  const before = listeners();
  await own.seal(modelOf(4));
  expect(listeners()).toEqual(before);
  await own.close();
  await own.close();
  expect(worker.threadId).toBe(-1);
  // By itself: V8 may abort where a thread is ended from outside.
  expect(ended).not.toHaveBeenCalled();
});
