import { type CheckpointStore, isRxgradError } from 'rxgrad';
import { describe, expect, it } from 'vitest';

const bytes = (first: number, length = 100) => Uint8Array.from({ length }, (_, i) => (first + i) % 256);

/** What every store of checkpoints has to do. `open` opens the same place again for as long as a test runs. */
export function storeConformance(name: string, place: () => Promise<(keep?: number) => Promise<CheckpointStore>>): void {
  describe(name, () => {
    it('is empty at first', async () => {
      const store = await (await place())();
      expect(await store.list()).toEqual([]);
      await store.close();
    });

    it('gives back what was written, newest version first, also when it is opened again', async () => {
      const open = await place();
      const store = await open();
      for (const version of [3, 12, 7]) await store.write(version, bytes(version));
      await store.close();
      const again = await open();
      expect((await again.list()).map(({ version, bytes, pinned }) => [version, bytes, pinned])).toEqual([
        [12, 100, false],
        [7, 100, false],
        [3, 100, false],
      ]);
      expect(Buffer.from(await again.read(7)).equals(bytes(7))).toBe(true);
      expect((await again.list())[0]!.savedAtMs).toBeGreaterThan(Date.now() - 60_000);
      await again.close();
    });

    it('replaces a version that is written again', async () => {
      const store = await (await place())();
      await store.write(5, bytes(1, 300));
      await store.write(5, bytes(2, 10));
      expect(Buffer.from(await store.read(5)).equals(bytes(2, 10))).toBe(true);
      expect((await store.list()).map((entry) => entry.bytes)).toEqual([10]);
      await store.close();
    });

    it('keeps the newest, and those that are pinned', async () => {
      const store = await (await place())(2);
      await store.write(1, bytes(1));
      await store.pin(1, true);
      for (let version = 2; version <= 5; version++) await store.write(version, bytes(version));
      expect((await store.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
        [5, false],
        [4, false],
        [1, true],
      ]);
      await store.pin(1, false);
      await store.write(6, bytes(6));
      expect((await store.list()).map(({ version }) => version)).toEqual([6, 5]);
      await store.close();
    });

    it('removes', async () => {
      const store = await (await place())();
      for (const version of [1, 2]) await store.write(version, bytes(version));
      await store.remove(2);
      await store.remove(2);
      await store.remove(9);
      expect((await store.list()).map(({ version }) => version)).toEqual([1]);
      await store.close();
    });

    it('forgets with a version that it was pinned', async () => {
      const store = await (await place())();
      for (const version of [1, 2]) {
        await store.write(version, bytes(version));
        await store.pin(version, true);
      }
      await store.remove(1);
      await store.setAside([2]);
      for (const version of [1, 2]) await store.write(version, bytes(version));
      expect((await store.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
        [2, false],
        [1, false],
      ]);
      await store.close();
    });

    it('numbers the courses that are set aside, and lists them in that order', async () => {
      const store = await (await place())();
      await store.write(1, bytes(1));
      const names: string[] = [];
      for (let version = 2; version <= 13; version++) {
        await store.write(version, bytes(version));
        names.push(await store.setAside([version]));
      }
      expect((await store.abandoned()).map(({ name, entries }) => [name, entries[0]!.version])).toEqual(
        names.map((name, i) => [name, i + 2]),
      );
      await store.close();
    });

    it('sets versions aside, whole or not, where they are listed and count no more', async () => {
      const open = await place();
      const store = await open();
      for (const version of [1, 2, 3]) await store.write(version, bytes(version, 3000));
      await store.pin(2, true);
      expect(await store.abandoned()).toEqual([]);
      const first = await store.setAside([3, 2]);
      await store.write(2, bytes(9));
      const second = await store.setAside([2]);
      expect((await store.list()).map(({ version }) => version)).toEqual([1]);
      await store.close();
      const again = await open(2);
      const courses = await again.abandoned();
      expect(courses.map(({ name, entries }) => [name, ...entries.map(({ version, bytes }) => [version, bytes])])).toEqual([
        [first, [3, 3000], [2, 3000]],
        [second, [2, 100]],
      ]);
      for (const version of [4, 5]) await again.write(version, bytes(version));
      expect((await again.list()).map(({ version }) => version)).toEqual([5, 4]);
      expect((await again.abandoned()).length).toBe(2);
      await again.close();
    });

    it.each(['read', 'pin'] as const)('tells by an error that there is nothing to %s', async (call) => {
      const store = await (await place())();
      await store.write(1, bytes(1));
      const failed = await (call === 'read' ? store.read(4) : store.pin(4, true)).catch((error: unknown) => error);
      expect(isRxgradError(failed) && failed.key).toBe('checkpointFailed');
      expect(isRxgradError(failed) && failed.message).toContain('version 4');
      // Nothing was left that a later one would find.
      await store.write(4, bytes(4));
      expect((await store.list()).map(({ version, pinned }) => [version, pinned])).toEqual([
        [4, false],
        [1, false],
      ]);
      await store.close();
    });

    it('takes files that are large', async () => {
      const store = await (await place())();
      const file = bytes(9, 3_000_001);
      await store.write(8, file);
      expect(Buffer.from(await store.read(8)).equals(file)).toBe(true);
      await store.close();
    });
  });
}
