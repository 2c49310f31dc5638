import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  FileCheckpoints,
  type LogRecord,
  memoryTransport,
  Parameters,
  type Rejection,
  recover,
  type Transport,
  weightsFrom,
} from 'rxgrad';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { eventually } from '../eventually.ts';
import { batchOf, bitsOf, recordsOf, replay, specs, Training, topicOf } from './training.ts';

const base = { topic: 'weights', model: 'm', everySteps: 1, conflate: false } as const;
const batch = (seed: number) => batchOf({ rows: [seed, seed + 9], dense: ['scale'], seed });

let warnings: string[];
const listen = (warning: Error & { code?: string }) => {
  if (warning.code === 'RXGRAD_OTHER_WEIGHTS') warnings.push(warning.message);
};
beforeEach(() => {
  warnings = [];
  process.on('warning', listen);
});
afterEach(() => void process.off('warning', listen));

/** A replica that goes on, with what it has shown. */
function following(transport: Transport, into = Parameters.create(specs)) {
  const shown: { version: number; bits: string }[] = [];
  const rejections: Rejection[] = [];
  const subscription = weightsFrom(transport, {
    topic: 'weights',
    model: 'm',
    into,
    rejections: { next: (rejection) => void rejections.push(rejection) },
  }).subscribe(({ version }) => shown.push({ version, bits: bitsOf(into) }));
  onTestFinished(() => subscription.unsubscribe());
  return { into, shown, rejections, versions: () => shown.map(({ version }) => version), stop: () => subscription.unsubscribe() };
}

/** Trains so many steps, and publishes each. */
async function train(transport: Transport, course: string, seeds: readonly number[], more = {}) {
  const training = new Training(transport, { ...base, ...more }, { course });
  for (const seed of seeds) training.push(batch(seed));
  await training.applied();
  return training;
}

describe('weights of another course of training', () => {
  it('are not published where a course is, and whoever publishes it is not disturbed', async () => {
    const transport = memoryTransport();
    const first = await train(transport, 'one', [1, 2, 3]);
    await eventually(async () => expect(await recordsOf(transport, 'weights')).toHaveLength(3));
    const other = new Training(transport, base, { course: 'other' });
    other.push(batch(7));
    expect(await other.done).toMatchObject({
      key: 'anotherCourse',
      message: expect.stringContaining('of this course of training (other) alone, got version 3 of another one (one)'),
    });
    first.push(batch(4));
    await first.complete();
    expect(first.error).toBeNull();
    expect(await recordsOf(transport, 'weights')).toHaveLength(4);
  });

  it('do not replace those that a replica shows, which goes on when its course does', async () => {
    const transport = memoryTransport();
    const one = await train(transport, 'one', [1, 2, 3, 4, 5]);
    const replica = following(transport);
    await eventually(() => expect(replica.versions().at(-1)).toBe(5));
    // Two that publish at a time, each under an id of its own.
    const other = await train(transport, 'other', [21, 22], { takeOver: true, writer: 'another' });
    await eventually(() => expect(replica.rejections.map(({ reason }) => reason)).toEqual(['otherWeights', 'otherWeights']));
    one.push(batch(6));
    await one.applied();
    await eventually(() => expect(replica.versions().at(-1)).toBe(6));
    other.push(batch(23));
    one.push(batch(7));
    await Promise.all([one.complete(), other.complete()]);
    await eventually(() => expect(replica.versions().at(-1)).toBe(7));
    for (const { version, bits } of replica.shown) expect(bits, `version ${version}`).toBe(one.history.get(version));
    expect(replica.versions()).toEqual([...new Set(replica.versions())].sort((a, b) => a - b));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(
      /Weights of "m": weights\/0@\d+: expected weights of the course of training that is followed \(one\)/,
    );
    expect(warnings[0]).toContain('a restart follows the other one');
  });

  it('are followed by a replica that is started after them, which says so where it shows them after others', async () => {
    const transport = memoryTransport();
    const one = await train(transport, 'one', [1, 2, 3, 4, 5]);
    await one.complete();
    const other = await train(transport, 'other', [21, 22], { takeOver: true });
    await other.complete();
    const replica = following(transport);
    await eventually(() => expect(replica.versions().slice(-2)).toEqual([1, 2]));
    for (const { version, bits } of replica.shown.slice(-2)) expect(bits).toBe(other.history.get(version));
    expect(replica.into.course).toBe('other');
    expect(warnings).toEqual(['Weights of "m" on weights: version 1 of another course of training takes the place of version 5']);
    // It stays with that one, also where it is subscribed to again.
    const back = await train(transport, 'one', [1, 2, 3, 4, 5, 6, 7], { takeOver: true });
    await back.complete();
    await eventually(() => expect(replica.rejections.at(-1)?.reason).toBe('otherWeights'));
    expect(replica.versions().at(-1)).toBe(2);
  });

  it('do not replace those that were shown where it is subscribed to again', async () => {
    const transport = memoryTransport();
    const one = await train(transport, 'one', [1, 2, 3]);
    const into = Parameters.create(specs);
    const weights$ = weightsFrom(transport, { topic: 'weights', model: 'm', into });
    const shown: number[] = [];
    const first = weights$.subscribe(({ version }) => shown.push(version));
    await eventually(() => expect(shown.at(-1)).toBe(3));
    first.unsubscribe();
    const other = await train(transport, 'other', [21, 22, 23, 24, 25], { takeOver: true, writer: 'another' });
    await other.complete();
    const again = weights$.subscribe(({ version }) => shown.push(version));
    onTestFinished(() => again.unsubscribe());
    one.push(batch(4));
    await one.complete();
    await eventually(() => expect(shown.at(-1)).toBe(4));
    expect(bitsOf(into)).toBe(one.history.get(4));
  });

  it('are never put together with those of other shards', async () => {
    const of = async (course: string): Promise<LogRecord[]> => {
      const transport = memoryTransport();
      const trainings = await Promise.all(
        [0, 1].map(async (shard) => {
          const params = Parameters.create({ [`emb[${30 * shard}:${30 * shard + 30}]`]: { dims: [30, 30] } });
          const options = { ...base, shard, shards: 2 };
          const training = new Training(transport, options, { params, course: `${course}-${shard}` });
          for (let seed = 0; seed < 2; seed++) {
            const { name } = [...params][0]!;
            training.push(batchOf({ rows: [30 * shard + seed], dense: [], seed }, name, 30 * shard));
          }
          return training;
        }),
      );
      await Promise.all(trainings.map((training) => training.complete()));
      return recordsOf(transport, 'weights');
    };
    const [one, other] = [await of('one'), await of('other')];
    const shard = (records: readonly LogRecord[], which: number) =>
      records.filter(({ headers }) => String(headers.ce_weights).includes(`shard=${which}`));
    const whole = await replay(await topicOf([...one, ...shard(other, 0), ...shard(one, 1), ...shard(other, 1)]), 'weights');
    const halves = await replay(await topicOf([...one, ...shard(other, 0), ...shard(one, 1)]), 'weights');
    expect(halves.shown.map(({ version }) => version)).toEqual([1, 2]);
    expect(halves.rejections.map(({ reason }) => reason)).toContain('otherWeights');
    expect(whole.shown.map(({ version }) => version)).toEqual([1, 2, 1, 2]);
  });

  it('are those of a publisher that tells none neither', async () => {
    const transport = memoryTransport();
    await (await train(transport, 'one', [1, 2, 3])).complete();
    const records = (await recordsOf(transport, 'weights')).map((record) => ({
      ...record,
      headers: { ...record.headers, ce_weights: String(record.headers.ce_weights).replace(/, course="one"/, '') },
    }));
    const { shown, rejections } = await replay(await topicOf(records), 'weights');
    expect(shown.map(({ version }) => version)).toEqual([1, 2, 3]);
    expect(rejections).toEqual([]);
  });
});

it('a checkpoint keeps the course of training', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-course-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const transport = memoryTransport();
  await transport.createTopic('gradients');
  const store = new FileCheckpoints(folder);
  const [params, again, fresh] = [Parameters.create(specs), Parameters.create(specs), Parameters.create(specs)];
  await recover(params, store, { transport, topic: 'gradients' });
  await recover(again, store, { transport, topic: 'gradients' });
  expect(again.course).toBe(params.course);
  expect(fresh.course).not.toBe(params.course);
  // The same weights are the same bytes, whoever wrote them.
  expect(Buffer.compare(params.stateDict(), fresh.stateDict())).toBe(0);
});
