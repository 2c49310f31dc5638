import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes a file at `part`, synchronises it and renames it to `path`, in the same folder: it is there whole, or as it was before. */
export async function replaceFile(path: string, part: string, bytes: Uint8Array): Promise<void> {
  try {
    const file = await open(part, 'w');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
    await synchroniseFolder(dirname(path));
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    throw error;
  }
}

/** Makes what was renamed or made in a folder last. */
export async function synchroniseFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  // Windows cannot synchronise a folder, and needs not: its renames are journalled.
  await folder.sync().catch(() => {});
  await folder.close();
}
