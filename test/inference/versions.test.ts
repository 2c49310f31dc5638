import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileCheckpoints, gradientBatch, Parameters, sgd } from 'rxgrad';
import { from } from 'rxjs';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { Versions } from '../../src/inference/versions.ts';
import { owned } from '../checkpoints/owned.ts';

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

async function checkpoints(): Promise<FileCheckpoints> {
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-versions-'));
  folders.push(folder);
  return owned(new FileCheckpoints(folder));
}

const model = () => Parameters.create({ w: { dims: [2], data: [0, 0] } });
const load = (params: Parameters, version: number) => params.load({ w: [version, version] }, { version });
const seen = (params: Parameters) => params.reader().read(({ w }, version) => [version, ...w!]);

describe('versions', () => {
  it('are gone back to, and stay until they are unpinned', async () => {
    const params = model();
    const versions = new Versions(params, undefined, null);
    load(params, 3);
    await versions.keep(['stable']);
    load(params, 4);
    await versions.keep();
    load(params, 5);
    expect(await versions.rollback()).toMatchObject({ version: 4, live: true, pinned: true });
    expect(await versions.rollback('stable')).toMatchObject({ version: 3, live: true, pinned: true, labels: ['stable'] });
    load(params, 6);
    expect(seen(params)).toEqual([3, 3, 3]);
    expect((await versions.list()).map(({ version, live }) => [version, live])).toEqual([
      [4, false],
      [3, true],
    ]);
    expect(versions.unpin()).toMatchObject({ version: 6, live: true, pinned: false });
    expect(seen(params)).toEqual([6, 6, 6]);
  });

  it('are brought back from checkpoints', async () => {
    const store = await checkpoints();
    const params = model();
    for (const version of [2, 7]) {
      load(params, version);
      await store.write(version, params.stateDict());
    }
    load(params, 9);
    const versions = new Versions(params, undefined, store);
    expect((await versions.list()).map(({ version, inMemory, live }) => [version, inMemory, live])).toEqual([
      [9, true, true],
      [7, false, false],
      [2, false, false],
    ]);
    expect(await versions.rollback(2)).toMatchObject({ version: 2, live: true, pinned: true, inMemory: true });
    expect(seen(params)).toEqual([2, 2, 2]);
    expect(await versions.label(7, 'stable')).toMatchObject({ version: 7, labels: ['stable'], live: false });
    await expect(versions.rollback(3)).rejects.toThrow(/expected a version that is there \(7, 2\), got 3/);
    await expect(versions.rollback('candidate')).rejects.toThrow(
      /expected a version that is there \(.*7 stable.*\), got candidate/,
    );
  });

  it('are brought back from a scan with an average as what was served: the average', async () => {
    const store = await checkpoints();
    const served = model();
    const trained = served.twin();
    from([
      gradientBatch({ gradients: { w: Float32Array.of(-8, -4) } }),
      gradientBatch({ gradients: { w: Float32Array.of(-8, -4) } }),
    ])
      .pipe(sgd(trained, { lr: 1, average: { into: served, decay: 0.5, after: 0 } }))
      .subscribe();
    served.swap();
    const [version, ...average] = seen(served);
    expect(average).not.toEqual([...trained.get('w').data]);
    await store.write(version!, trained.stateDict());
    load(served, 9);
    const versions = new Versions(served, undefined, store);
    expect(await versions.rollback(version)).toMatchObject({ version, live: true });
    expect(seen(served)).toEqual([version, ...average]);
  });

  it('that are not finite are not brought back', async () => {
    const store = await checkpoints();
    const params = model();
    params.load({ w: [1, Number.NaN] }, { version: 5 });
    await store.write(5, params.stateDict());
    load(params, 6);
    const versions = new Versions(params, undefined, store);
    await expect(versions.rollback(5)).rejects.toThrow(/got NaN or Infinity in version 5/);
    expect(seen(params)).toEqual([6, 6, 6]);
  });

  it('are kept now and then, as many as asked for', async () => {
    const params = model();
    const versions = new Versions(params, { last: 2, everyVersions: 3 }, null);
    for (let version = 1; version <= 10; version++) {
      load(params, version);
      versions.note();
      await new Promise(setImmediate);
    }
    expect((await versions.list()).map(({ version }) => version)).toEqual([10, 7]);
  });

  it('are kept after so many milliseconds, one at a time, and not at all where that is not asked for', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const kept = async (keep: ConstructorParameters<typeof Versions>[1]): Promise<number[]> => {
      const params = model();
      const versions = new Versions(params, keep, null);
      for (let version = 1; version <= 6; version++) {
        load(params, version);
        versions.note();
        versions.note();
        await new Promise(setImmediate);
        vi.advanceTimersByTime(400);
      }
      return params.kept.list().map(({ version }) => version);
    };
    expect(await kept({ last: 9, everyMs: 1000 })).toEqual([4, 1]);
    expect(await kept(undefined)).toEqual([]);
  });

  it('without a number, the one before the live one is gone back to, though that is kept, too', async () => {
    const params = model();
    const versions = new Versions(params, undefined, null);
    for (const version of [3, 4, 5]) {
      load(params, version);
      await versions.keep();
    }
    expect((await versions.rollback()).version).toBe(4);
    expect((await versions.rollback()).version).toBe(3);
  });

  it('that are pinned without being kept have no names', async () => {
    const params = model();
    load(params, 2);
    expect((await new Versions(params, undefined, null).pin()).labels).toEqual([]);
  });

  it('say what cannot be gone back to', async () => {
    const versions = new Versions(model(), undefined, null);
    await expect(versions.rollback()).rejects.toThrow(
      /expected a version that is there \(one in memory that is older than 0\), got none/,
    );
    await expect(versions.pin(12)).rejects.toThrow(/expected a version that is there \(0, which is live\), got 12/);
  });

  it('do not leave what is pinned for weights that are not finite', async () => {
    const params = model();
    const versions = new Versions(params, undefined, null);
    load(params, 1);
    await versions.pin();
    load(params, 2);
    params.load({ w: [Number.POSITIVE_INFINITY, 0] });
    expect(() => versions.unpin()).toThrow(/got NaN or Infinity in version 3/);
    expect(seen(params)).toEqual([1, 1, 1]);
  });
});
