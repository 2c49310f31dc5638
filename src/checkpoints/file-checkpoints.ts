import { copyFile, link, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { isFenced, RxgradError } from '../errors.ts';
import { count, parseOptions } from '../options.ts';
import { type AbandonedCourse, type CheckpointEntry, type CheckpointStore, notOwner, superseded } from './checkpoint-store.ts';
import { FolderOwner } from './folder-owner.ts';
import { assertReadBack } from './read-back.ts';
import { synchroniseFolder } from './replace-file.ts';

export interface FileCheckpointsOptions {
  /** How many are kept beside those that are pinned. Default 5. */
  readonly keep?: number;
}

const schema = v.strictObject({ keep: v.optional(count, 5) });
const fileName = /^(\d{16})\.safetensors$/;
const courseName = /^abandoned-(\d+)$/;

/**
 * Keeps checkpoints in a folder, one safetensors file each. A file is written beside its place, synchronised with the disk and
 * then renamed, and so is the folder: after a crash it is there whole, or the ones before are. One store at a time may write and remove:
 * the last one that `recover`, `checkpoint` or `takeOver()` was called with, wherever it runs. The others fail with `fenced`, and one that was
 * never taken over with `notOwner`.
 *
 * @example
 * const store = new FileCheckpoints('checkpoints', { keep: 10 });
 */
export class FileCheckpoints implements CheckpointStore {
  readonly name: string;
  readonly #folder: string;
  readonly #keep: number;
  #owner: Promise<FolderOwner> | null = null;
  readonly #told = new Set<string>();

  constructor(folder: string, options: FileCheckpointsOptions = {}) {
    this.#folder = folder;
    this.#keep = parseOptions(schema, options, 'FileCheckpoints').keep;
    this.name = `checkpoints in ${folder}`;
  }

  async takeOver(): Promise<void> {
    const owner = FolderOwner.claim(this.name, this.#folder, (file) => this.#isPinned(file));
    this.#owner = owner;
    await this.#attempt('taking the folder over', () => owner).catch((error: unknown) => {
      // Who lost against another one that started at the same time does not try again by itself.
      if (!isFenced(error)) this.#owner = null;
      throw error;
    });
  }

  get tookOver(): boolean {
    return this.#owner !== null;
  }

  async confirmOwner(): Promise<void> {
    if (this.#owner) await (await this.#owner).confirm();
  }

  async list(): Promise<CheckpointEntry[]> {
    const names = await this.#names();
    const pinned = new Set(names.filter((name) => name.endsWith('.pinned')));
    // A number beyond those is nobody's version.
    const found = names
      .flatMap((name) => fileName.exec(name)?.[1] ?? [])
      .filter((digits) => Number.isSafeInteger(Number(digits)));
    const entries = await Promise.all(found.map((digits) => this.#entry(digits, pinned.has(`${digits}.pinned`))));
    return entries.filter((entry) => entry !== null).sort((a, b) => b.version - a.version);
  }

  async read(version: number): Promise<Uint8Array> {
    return this.#attempt(`reading version ${version}`, () => readFile(this.#file(version)));
  }

  async write(version: number, file: Uint8Array): Promise<void> {
    const owner = await this.#owned(`writing version ${version}`);
    await this.#attempt(`writing version ${version}`, () => owner.replace(this.#file(version), file));
    await assertReadBack(this, version, file).catch(async (error) => {
      // A newer owner may have written or removed this version since.
      await owner.confirm();
      throw error;
    });
    // What is too many does no harm: the next one removes it. Another process may pin it until the last moment.
    for (const old of superseded(await this.list(), this.#keep)) {
      await this.#attempt(`removing version ${old}`, () => owner.remove(this.#file(old), () => isFile(this.#pin(old))));
    }
  }

  async remove(version: number): Promise<void> {
    const owner = await this.#owned(`removing version ${version}`);
    await this.#attempt(`removing version ${version}`, async () => {
      await owner.remove(this.#pin(version));
      if (await isFile(this.#file(version))) await owner.remove(this.#file(version));
    });
  }

  /** Also of a folder that another one writes to. */
  async pin(version: number, pinned: boolean): Promise<void> {
    await this.#attempt(`pinning version ${version}`, async () => {
      const [file, pin] = [this.#file(version), this.#pin(version)];
      await stat(file);
      if (!pinned) return rm(pin, { force: true });
      await (await open(pin, 'w')).close();
      await synchroniseFolder(this.#folder);
      await stat(file).catch(async (error) => {
        await rm(pin, { force: true });
        throw error;
      });
    });
  }

  /** In subfolders, each of which a store can be opened for. */
  async setAside(versions: readonly number[]): Promise<string> {
    const owner = await this.#owned('setting versions aside');
    const number = 1 + (await this.#courses()).reduce((most, course) => Math.max(most, course), 0);
    const course = join(this.#folder, `abandoned-${number}`);
    await this.#attempt(`setting versions ${versions.join(', ')} aside`, async () => {
      await mkdir(course);
      const paths = versions.flatMap((version) => [this.#pin(version), this.#file(version)]);
      const there = (await Promise.all(paths.map(async (path) => ((await isFile(path)) ? [path] : [])))).flat();
      // At no time is one neither here nor there.
      for (const path of there) {
        const aside = join(course, basename(path));
        await link(path, aside).catch(() => copyFile(path, aside));
      }
      await synchroniseFolder(course);
      for (const path of there) await owner.remove(path);
    });
    return course;
  }

  async abandoned(): Promise<AbandonedCourse[]> {
    const courses = (await this.#courses()).map((number) => join(this.#folder, `abandoned-${number}`));
    return Promise.all(courses.map(async (course) => ({ name: course, entries: await new FileCheckpoints(course).list() })));
  }

  async close(): Promise<void> {}

  async #owned(what: string): Promise<FolderOwner> {
    if (!this.#owner) throw notOwner(this.name, what);
    return this.#owner;
  }

  async #courses(): Promise<number[]> {
    const numbers = (await this.#names()).flatMap((name) => Number(courseName.exec(name)?.[1] ?? Number.NaN));
    return numbers.filter((number) => !Number.isNaN(number)).sort((a, b) => a - b);
  }

  async #names(): Promise<string[]> {
    try {
      return await readdir(this.#folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw this.#failure('reading the folder', error);
    }
  }

  /** Null where it was removed in the meantime, or is no file. */
  async #entry(digits: string, pinned: boolean): Promise<CheckpointEntry | null> {
    const path = join(this.#folder, `${digits}.safetensors`);
    const found = await stat(path).catch(() => null);
    if (found?.isFile()) return { version: Number(digits), bytes: found.size, savedAtMs: found.mtimeMs, pinned };
    if (found && !this.#told.has(path)) {
      this.#told.add(path);
      process.emitWarning(`${path} has the name of a checkpoint, but is no file: it is passed over`, {
        code: 'RXGRAD_CHECKPOINT_SKIPPED',
      });
    }
    return null;
  }

  /** Whether a checkpoint by the name of its file is pinned. */
  async #isPinned(name: string): Promise<boolean> {
    const digits = fileName.exec(name)?.[1];
    return digits !== undefined && isFile(this.#pin(Number(digits)));
  }

  #file(version: number): string {
    return join(this.#folder, `${String(version).padStart(16, '0')}.safetensors`);
  }

  #pin(version: number): string {
    return join(this.#folder, `${String(version).padStart(16, '0')}.pinned`);
  }

  async #attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      throw isFenced(error) ? error : this.#failure(what, error);
    }
  }

  #failure(what: string, cause: unknown): RxgradError {
    return new RxgradError('checkpointFailed', { store: this.name, what, problem: (cause as Error).message }, { cause });
  }
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isFile() ?? false;
}
