import { basename } from 'node:path';
import type { HotSwapSessionOptions } from '../../inference/hot-swap-session.ts';
import { expectOption } from '../../options.ts';
import { type OpenServable, openServable } from '../../serve/open-servable.ts';
import type { Transport } from '../../sources/transport.ts';
import { storeOf } from '../checkpoint-store.ts';
import type { PipelineOptions } from '../pipeline.ts';
import type { ServeCommandOptions } from './options.ts';

/** A model that was opened to be served. */
export interface OpenModel {
  readonly name: string;
  readonly file: string;
  readonly session: OpenServable;
}

const LONGEST_NAME = 128;

/** What clients call the models: by name, the file. */
export function namesOf(files: readonly string[], given: string | undefined): Map<string, string> {
  expectOption(given === undefined || files.length === 1, '--name', 'one model with it', `${files.length} files`);
  const names = new Map<string, string>();
  for (const file of files) {
    const name = given ?? basename(file).replace(/\.onnx$/, '');
    const isName = name !== '' && name.length <= LONGEST_NAME && !/[\p{C}\p{Zl}\p{Zp}/]/u.test(name);
    const shown = JSON.stringify(name.slice(0, LONGEST_NAME));
    expectOption(isName, '--name', `1 to ${LONGEST_NAME} characters, without slashes and control characters`, shown);
    expectOption(!names.has(name), 'model', 'a name for each', `"${name}" twice`);
    names.set(name, file);
  }
  return names;
}

/** Opens the models. If one cannot be, those that were are closed again. */
export async function openModels(
  names: ReadonlyMap<string, string>,
  options: ServeCommandOptions,
  transport: Transport | null,
): Promise<OpenModel[]> {
  for (const option of ['checkpoints', 'checkpointTopic', 'weightsModel'] as const) {
    const flag = `--${option.replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`)}`;
    expectOption(names.size === 1 || options[option] === undefined, flag, 'one model with it', `${names.size} of them`);
  }
  const models: OpenModel[] = [];
  try {
    for (const [name, file] of names) {
      models.push({ name, file, session: await openServable(file, sessionOptions(options, transport)) });
    }
    return models;
  } catch (error) {
    for (const { session } of models) await session.dispose();
    throw error;
  }
}

function sessionOptions(options: ServeCommandOptions, transport: Transport | null): HotSwapSessionOptions {
  const { workers, strategy, providers, maxBatch, maxDelayMs, maxQueue } = options;
  const { maxStalenessMs: ms, maxStalenessVersions: versions, whenStale, keep, keepEveryMs } = options;
  // How many are kept is said of what stays in memory here; of the checkpoints nothing is removed.
  const { keep: _, ...place } = options as unknown as PipelineOptions;
  const checkpoints = storeOf(place, transport!);
  const session = { executionProviders: providers?.split(',').map((provider) => provider.trim()) };
  const isLimited = ms !== undefined || versions !== undefined;
  // biome-ignore lint/suspicious/noThenProperty: the name of the option
  const maxStaleness = { ms, versions, then: whenStale };
  return {
    workers,
    strategy,
    maxBatch,
    maxDelayMs,
    maxQueue,
    ...(providers === undefined ? {} : { session }),
    ...(isLimited ? { maxStaleness } : {}),
    ...(keep > 0 ? { keep: { last: keep, everyMs: keepEveryMs } } : {}),
    ...(checkpoints ? { checkpoints } : {}),
  } as HotSwapSessionOptions;
}
