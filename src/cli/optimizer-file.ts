import { readFile } from 'node:fs/promises';
import { RxgradError } from '../errors.ts';
import type { OptimizerConfig } from '../optimizers/optimizer.ts';

/** Reads the file that `--optimizer` names. What it says is checked where it is used. */
export async function readOptimizer(file: string): Promise<OptimizerConfig> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as OptimizerConfig;
  } catch (error) {
    const got = (error as Error).message;
    throw new RxgradError('invalidOption', { option: '--optimizer', expected: 'a file of JSON', got });
  }
}
