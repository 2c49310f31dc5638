import { lastValueFrom, type MonoTypeOperatorFunction, type OperatorFunction, pipe, takeWhile, tap } from 'rxjs';
import { RxgradError } from '../errors.ts';
import type { TrainingEvent } from '../events.ts';
import { fromRecipe } from '../optimizers/from-recipe.ts';
import type { WeightsUpdate } from '../optimizers/weights-update.ts';
import { Parameters } from '../params/parameters.ts';
import { requireFit } from '../sources/check-topic.ts';
import { fromTransport } from '../sources/from-transport.ts';
import type { Transport } from '../sources/transport.ts';
import type { CheckpointFacts } from './checkpoint-file.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { newestWhole, type OpenedCheckpoint } from './opened-checkpoint.ts';
import { placeInLog } from './place-in-log.ts';

/**
 * A moment of a model: the version, behind the record at an offset of a partition, or after all records that were appended up to a
 * time (milliseconds since 1970, UTC).
 */
export type Moment =
  | { readonly version: number }
  | { readonly offset: number; readonly partition?: number }
  | { readonly timeMs: number };

/** Stages and scan over parameters, as training had them. */
export type ScanOver = (params: Parameters) => OperatorFunction<TrainingEvent, WeightsUpdate>;

export interface ReplayOptions {
  readonly store: CheckpointStore;
  readonly transport: Transport;
  readonly topic: string;
  readonly to: Moment;
  /** Default: as the checkpoint says that they were. Needed where it cannot say it: a rate that is a function. */
  readonly scan?: ScanOver | undefined;
  /** Is told every step that is taken again. */
  readonly onUpdate?: (update: WeightsUpdate) => void;
}

/**
 * Rebuilds parameters as they were at a moment: the newest checkpoint before it, and the log from there on. They are new ones, and what
 * is live stays as it is. The same bits as those of the run that is replayed.
 *
 * @example
 * const params = await replay({ store, transport, topic: 'gradients', to: { version: 1200 } });
 */
export async function replay(options: ReplayOptions): Promise<Parameters> {
  return replayFrom(await startingPoint(options), options);
}

/** As {@link replay}, from a checkpoint that was opened. */
export async function replayFrom(
  { file, facts, where }: OpenedCheckpoint,
  { transport, topic, to, scan, onUpdate }: Omit<ReplayOptions, 'store'>,
): Promise<Parameters> {
  await requireFit(transport, topic, 'gradients', { byTime: 'timeMs' in to });
  const params = Parameters.fromStateDict(file, { exact: true });
  const place = await placeInLog(facts, { transport, topic, partitions: partitionsOf(facts, topic) }, where);
  if ('version' in to && to.version === facts.version) return params;
  if ('offset' in to) await requireOffset(transport, topic, to);
  const until = 'offset' in to ? { offsets: new Map([[to.partition ?? 0, to.offset + 1]]) } : 'timeMs' in to ? to : 'end';
  const upTo: MonoTypeOperatorFunction<WeightsUpdate> =
    'version' in to ? takeWhile(({ version }) => version < to.version, true) : pipe();
  const updates$ = fromTransport(transport, { topic, ...place, until, seen: facts.seen }).pipe(
    (scan ?? saidBy(facts, where))(params),
    upTo,
    onUpdate ? tap(onUpdate) : pipe(),
  );
  await lastValueFrom(updates$, { defaultValue: null });
  if (!('version' in to) || params.version === to.version) return params;
  const expected = `up to ${params.version}, where the log ends`;
  throw new RxgradError('unknownVersion', { store: `topic ${topic}`, expected, got: to.version });
}

async function requireOffset(transport: Transport, topic: string, to: { offset: number; partition?: number }): Promise<void> {
  const end = (await transport.endOffsets(topic))[to.partition ?? 0] ?? 0;
  if (to.offset < end) return;
  throw new RxgradError('invalidOption', {
    option: 'to',
    expected: `an offset below ${end}, where the log ends`,
    got: to.offset,
  });
}

/** What was trained on one partition is replayed from that, however many there are. */
function partitionsOf({ positions }: CheckpointFacts, topic: string): readonly number[] | undefined {
  const partitions = positions.flatMap(([of, partition]) => (of === topic ? [partition] : []));
  return partitions.length === 0 ? undefined : partitions;
}

/** The newest checkpoint that contains nothing behind a moment. */
async function startingPoint({ store, topic, to }: Pick<ReplayOptions, 'store' | 'topic' | 'to'>): Promise<OpenedCheckpoint> {
  let upTo = 'version' in to ? to.version : Number.POSITIVE_INFINITY;
  for (;;) {
    const found = await newestWhole(store, upTo);
    if (!found) {
      const oldest = (await store.list()).at(-1)?.version;
      const expected =
        oldest === undefined ? 'a checkpoint to begin from' : `a moment behind version ${oldest}, the oldest that is kept`;
      throw new RxgradError('invalidOption', { option: 'to', expected, got: momentInWords(to) });
    }
    if (isBefore(found, topic, to)) return found;
    upTo = found.facts.version - 1;
  }
}

function isBefore({ facts: { positions, version, log } }: OpenedCheckpoint, topic: string, to: Moment): boolean {
  if ('version' in to) return version <= to.version;
  if ('timeMs' in to) return containsNothingAfter(to.timeMs, log?.newestMs);
  const next = positions.find(([of, partition]) => of === topic && partition === (to.partition ?? 0))?.[2] ?? 0;
  return next <= to.offset + 1;
}

/** By the times of the records that a checkpoint contains; one that does not say them (of an earlier version of rxgrad) may contain any. */
function containsNothingAfter(timeMs: number, newestMs: number | null | undefined): boolean {
  return newestMs === null || (newestMs !== undefined && newestMs <= timeMs);
}

/** Stages and scan as a checkpoint says that they were. */
function saidBy({ recipe, stages, steps }: CheckpointFacts, where: string): ScanOver {
  // The first batch tells the stages: behind an epoch alone, say, they are not known yet.
  if (recipe && stages && steps > 0) return (params) => fromRecipe(params, recipe, stages);
  const got = `${where}, from before the first step${steps > 0 ? ' since its stages may have changed' : ''}; give the scan yourself`;
  throw new RxgradError('invalidOption', { option: 'scan', expected: 'a checkpoint that says how it was', got });
}

export function momentInWords(to: Moment): string {
  if ('version' in to) return `version ${to.version}`;
  return 'timeMs' in to ? new Date(to.timeMs).toISOString() : `offset ${to.offset} of partition ${to.partition ?? 0}`;
}
