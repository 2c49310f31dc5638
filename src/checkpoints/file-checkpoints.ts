import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { count, parseOptions } from '../options.ts';
import { type CheckpointEntry, type CheckpointStore, superseded } from './checkpoint-store.ts';
import { replaceFile } from './replace-file.ts';

export interface FileCheckpointsOptions {
  /** How many are kept beside those that are pinned. Default 5. */
  readonly keep?: number;
}

const schema = v.strictObject({ keep: v.optional(count, 5) });
const fileName = /^(\d{16})\.safetensors$/;
const partName = /^\.(\d+)-\d+\.part$/;

/**
 * Keeps checkpoints in a folder, one safetensors file each. A file is written beside its place, synchronised with the disk and
 * then renamed, and so is the folder: after a crash it is there whole, or the ones before are.
 *
 * @example
 * const store = new FileCheckpoints('checkpoints', { keep: 10 });
 */
export class FileCheckpoints implements CheckpointStore {
  readonly name: string;
  readonly #folder: string;
  readonly #keep: number;
  #parts = 0;
  readonly #writing = new Set<string>();

  constructor(folder: string, options: FileCheckpointsOptions = {}) {
    this.#folder = folder;
    this.#keep = parseOptions(schema, options, 'FileCheckpoints').keep;
    this.name = `checkpoints in ${folder}`;
  }

  async list(): Promise<CheckpointEntry[]> {
    const names = await this.#names();
    const pinned = new Set(names.filter((name) => name.endsWith('.pinned')));
    const found = names.flatMap((name) => fileName.exec(name)?.[1] ?? []);
    const entries = await Promise.all(found.map((digits) => this.#entry(digits, pinned.has(`${digits}.pinned`))));
    return entries.filter((entry) => entry !== null).sort((a, b) => b.version - a.version);
  }

  async read(version: number): Promise<Uint8Array> {
    return this.#attempt(`reading version ${version}`, () => readFile(this.#file(version)));
  }

  async write(version: number, file: Uint8Array): Promise<void> {
    await this.#attempt(`writing version ${version}`, async () => {
      await mkdir(this.#folder, { recursive: true });
      await this.#replace(this.#file(version), file);
    });
    // What is too many does no harm: the next one removes it.
    for (const old of superseded(await this.list(), this.#keep)) await this.remove(old);
    await this.#removeLeftovers();
  }

  async remove(version: number): Promise<void> {
    await this.#attempt(`removing version ${version}`, async () => {
      await rm(this.#file(version), { force: true });
      await rm(this.#pin(version), { force: true });
    });
  }

  async pin(version: number, pinned: boolean): Promise<void> {
    await this.#attempt(`pinning version ${version}`, async () => {
      await stat(this.#file(version));
      if (pinned) await this.#replace(this.#pin(version), new Uint8Array(0));
      else await rm(this.#pin(version), { force: true });
    });
  }

  async close(): Promise<void> {}

  async #replace(path: string, bytes: Uint8Array): Promise<void> {
    const part = join(this.#folder, `.${process.pid}-${this.#parts++}.part`);
    this.#writing.add(part);
    try {
      await replaceFile(path, part, bytes);
    } finally {
      this.#writing.delete(part);
    }
  }

  /** Removes what writers that died have left half written. */
  async #removeLeftovers(): Promise<void> {
    for (const name of await this.#names()) {
      const pid = Number(partName.exec(name)?.[1] ?? Number.NaN);
      const path = join(this.#folder, name);
      if (Number.isNaN(pid) || this.#writing.has(path) || (pid !== process.pid && isAlive(pid))) continue;
      await rm(path, { force: true });
    }
  }

  async #names(): Promise<string[]> {
    try {
      return await readdir(this.#folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw this.#failure('reading the folder', error);
    }
  }

  /** Null where it was removed in the meantime. */
  async #entry(digits: string, pinned: boolean): Promise<CheckpointEntry | null> {
    const found = await stat(join(this.#folder, `${digits}.safetensors`)).catch(() => null);
    return found && { version: Number(digits), bytes: found.size, savedAtMs: found.mtimeMs, pinned };
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
      throw this.#failure(what, error);
    }
  }

  #failure(what: string, cause: unknown): RxgradError {
    return new RxgradError('checkpointFailed', { store: this.name, what, problem: (cause as Error).message }, { cause });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It is another user's.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
