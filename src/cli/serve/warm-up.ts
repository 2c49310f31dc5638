import { readFile } from 'node:fs/promises';
import { isRxgradError, RxgradError } from '../../errors.ts';
import type { Feeds } from '../../inference/runner.ts';
import { readInfer } from '../../serve/http/read-infer.ts';
import { feedsOf } from '../../serve/infer.ts';
import { ServedModels } from '../../serve/served-models.ts';
import type { OpenModel } from './models.ts';

/** By the model's name, what to warm it up with. */
export type WarmUpRequests = ReadonlyMap<string, readonly Feeds[]>;

const limits = { tensors: 256, elements: 2 ** 24 };

/**
 * Reads recorded requests: bodies of `infer` in JSON, one a line. Where there are several models, each names its own as
 * `model_name`.
 */
export async function readWarmUp(file: string | undefined, models: readonly OpenModel[]): Promise<WarmUpRequests> {
  const requests = new Map<string, Feeds[]>();
  if (file === undefined) return requests;
  const served = new ServedModels(Object.fromEntries(models.map(({ name, session }) => [name, session])));
  const lines = (await textOf(file)).split('\n');
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '') continue;
    try {
      const model = served.find(models.length === 1 ? models[0]!.name : nameIn(line));
      const { inputs } = readInfer(model, null, Buffer.from(line), null, limits);
      requests.set(model.name, [...(requests.get(model.name) ?? []), feedsOf(model, inputs)]);
    } catch (cause) {
      if (!isRxgradError(cause)) throw cause;
      const option = `--warm-up: line ${i + 1} of ${file}`;
      throw new RxgradError('invalidOption', { option, expected: 'a request', got: cause.message }, { cause });
    }
  }
  return requests;
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const got = (cause as NodeJS.ErrnoException).code ?? 'another';
    throw new RxgradError('invalidOption', { option: '--warm-up', expected: 'a file to read', got }, { cause });
  }
}

function nameIn(line: string): string {
  try {
    return String((JSON.parse(line) as { model_name?: unknown } | null)?.model_name);
  } catch {
    return 'undefined';
  }
}
