import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { replaceFile } from './replace-file.ts';

const claimForm = /^\.(owner|fenced)-(\d+)-([0-9a-f-]{36})$/;
const who = 'owner.json';
const whoSchema = v.object({ host: v.string(), pid: v.number(), since: v.string() });

interface Claim {
  readonly name: string;
  readonly number: number;
  readonly token: string;
  readonly fenced: boolean;
}

/**
 * The one that may change a folder. It has a subfolder of its own in there, with a number and a random token in its name, and every change
 * is a rename out of that subfolder or into it. A newer owner takes the subfolders of all others away before it looks at anything: from
 * then on the file system itself refuses what they try, wherever they run and however long they stood still.
 */
export class FolderOwner {
  readonly #store: string;
  readonly #folder: string;
  readonly #own: string;
  #files = 0;

  private constructor(store: string, folder: string, own: string) {
    this.#store = store;
    this.#folder = folder;
    this.#own = own;
  }

  /**
   * Takes a folder over. What owners before have left half done is finished: `restore` tells whether a file that one of them had begun
   * to remove stays. Of several that start at the same time, one owns it in the end, and the others are told by `fenced`.
   */
  static async claim(store: string, folder: string, restore: (file: string) => Promise<boolean>): Promise<FolderOwner> {
    await mkdir(folder, { recursive: true });
    const number = 1 + (await claimsIn(folder)).reduce((most, claim) => Math.max(most, claim.number), 0);
    const own: Claim = { name: '', number, token: randomUUID(), fenced: false };
    const owner = new FolderOwner(store, folder, join(folder, `.owner-${number}-${own.token}`));
    await mkdir(owner.#own);
    const identity = { host: hostname(), pid: process.pid, since: new Date().toISOString() };
    await writeFile(join(owner.#own, who), JSON.stringify(identity)).catch((error) => owner.#rethrow(error));
    for (const other of await claimsIn(folder)) {
      if (other.token === own.token) continue;
      if (!other.fenced && isNewer(other, own)) {
        await rm(owner.#own, { recursive: true, force: true });
        await owner.confirm();
      }
      await evict(folder, other, restore);
    }
    return owner;
  }

  /** Writes a file: it is there whole, or as it was before. */
  async replace(path: string, bytes: Uint8Array): Promise<void> {
    await replaceFile(path, join(this.#own, `${this.#files++}.part`), bytes).catch((error) => this.#rethrow(error));
  }

  /** Removes a file, if it is there; it stays where `stays` says so once it is out of sight. */
  async remove(path: string, stays: () => Promise<boolean> = async () => false): Promise<void> {
    const held = join(this.#own, basename(path));
    try {
      await rename(path, held);
    } catch (error) {
      // That there is no such file is no error, unless it is the owner that is gone.
      if (!isMissing(error) || (await isThere(path))) await this.#rethrow(error);
      return this.confirm();
    }
    try {
      if (await stays()) await rename(held, path);
      else await rm(held, { force: true });
    } catch (error) {
      await this.#rethrow(error);
    }
  }

  /** Fails with `fenced` where another one has taken over. */
  async confirm(): Promise<void> {
    if (await isThere(this.#own)) return;
    throw new RxgradError('fenced', { where: this.#store, problem: await this.#successor() });
  }

  /** What fails because this is the owner no more says so. */
  async #rethrow(error: unknown): Promise<never> {
    if (isMissing(error)) await this.confirm();
    throw error;
  }

  async #successor(): Promise<string> {
    const claims = (await claimsIn(this.#folder)).filter(({ fenced }) => !fenced).sort((a, b) => (isNewer(a, b) ? -1 : 1));
    if (!claims[0]) return 'the folder was emptied, or removed, while it was written to';
    const text = await readFile(join(this.#folder, claims[0].name, who), 'utf8').catch(() => '');
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), whoSchema), text);
    const known = parsed.success
      ? ` (process ${parsed.output.pid} on host ${parsed.output.host}, since ${parsed.output.since})`
      : '';
    return `another writer has taken over${known}`;
  }
}

/** Takes an owner's subfolder away, and finishes what it has begun. Several may do so at once. */
async function evict(folder: string, { name, number, token }: Claim, restore: (file: string) => Promise<boolean>): Promise<void> {
  const fenced = join(folder, `.fenced-${number}-${token}`);
  await rename(join(folder, name), fenced).catch(unlessMissing);
  for (const file of (await readdir(fenced).catch(unlessMissing)) ?? []) {
    const path = join(fenced, file);
    if (await restore(file)) await rename(path, join(folder, file)).catch(unlessMissing);
    else await rm(path, { force: true });
  }
  // A file that is still open keeps its folder on some file systems; it is out of the way, and the next owner tries again.
  await rmdir(fenced).catch(() => {});
}

async function claimsIn(folder: string): Promise<Claim[]> {
  const names = await readdir(folder).catch(unlessMissing);
  return (names ?? []).flatMap((name) => {
    const [, kind, number, token] = claimForm.exec(name) ?? [];
    return token === undefined ? [] : [{ name, number: Number(number), token, fenced: kind === 'fenced' }];
  });
}

function isNewer(a: Claim, b: Claim): boolean {
  return a.number === b.number ? a.token > b.token : a.number > b.number;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: unknown) => {
      unlessMissing(error);
      return false;
    },
  );
}

/** NFS has another code for a folder that another host has removed. */
function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESTALE';
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
  return undefined;
}
