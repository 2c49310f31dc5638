import { readFileSync } from 'node:fs';
import { RxgradError } from '../../errors.ts';

const variable = 'RXGRAD_ADMIN_TOKEN';

/** The token of the admin routes: from a file or the environment, as every process could read it in the arguments. */
export function adminToken(file: string | undefined): string | undefined {
  if (file === undefined) return process.env[variable];
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (cause) {
    const got = (cause as NodeJS.ErrnoException).code ?? 'another';
    throw new RxgradError('invalidOption', { option: '--admin-token-file', expected: 'a file to read', got }, { cause });
  }
}
