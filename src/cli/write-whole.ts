import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { replaceFile } from '../checkpoints/replace-file.ts';
import { RxgradError } from '../errors.ts';

/** Fails where there is a file already, unless it may be replaced. */
export async function assertFree(path: string, option: string, force: boolean): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found?.isDirectory()) throw new RxgradError('invalidOption', { option, expected: 'a file', got: `the folder ${path}` });
  if (!found || force) return;
  throw new RxgradError('invalidOption', { option, expected: 'a file that is not there yet, or --force', got: path });
}

/** Writes a file beside its place, synchronises it and renames it: it is there whole, or as it was before. */
export async function writeWhole(path: string, bytes: Uint8Array, option: string): Promise<void> {
  const part = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  try {
    await replaceFile(path, part, bytes);
  } catch (cause) {
    const got = (cause as Error).message;
    throw new RxgradError('invalidOption', { option, expected: 'a file that can be written', got }, { cause });
  }
}
