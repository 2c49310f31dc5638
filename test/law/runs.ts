import {
  type CheckpointStore,
  fromTransport,
  type Parameters,
  type Rejection,
  recover,
  type ScanOptions,
  type TrainingEvent,
  type Transport,
  type WeightsUpdate,
} from 'rxgrad';
import { lastValueFrom, map, type OperatorFunction, tap, toArray } from 'rxjs';
import { expect } from 'vitest';
import { seal, unsealedMetadata } from '../../src/checkpoints/checkpoint-file.ts';
import { readTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import type { Until } from '../../src/sources/ending.ts';

/** Runs programs over a log, and from every state that a crash may leave. */

export const topic = 'gradients';

export interface Program {
  readonly transport: Transport;
  /** The partition of the topic that it is trained on, where there are several. */
  readonly partition?: number;
  readonly model: () => Parameters;
  readonly stages: (params: Parameters) => OperatorFunction<TrainingEvent, TrainingEvent>;
  readonly scan: (params: Parameters, options: Pick<ScanOptions, 'rejections'>) => OperatorFunction<TrainingEvent, WeightsUpdate>;
}

/** A state that a crash may leave, as a checkpoint holds it. */
export interface Snapshot {
  readonly version: number;
  readonly file: Uint8Array;
}

export interface Run {
  readonly params: Parameters;
  readonly updates: readonly { readonly version: number; readonly lr: number }[];
  readonly rejections: readonly { readonly offset: number; readonly reason: string }[];
  readonly snapshots: readonly Snapshot[];
  readonly error: unknown;
  /** Where the log was read from. */
  readonly from: number;
}

/** Runs a program from a snapshot, or from the beginning, up to the end of the log or an offset. */
export async function run(program: Program, from: Snapshot | null, until: Until = 'end'): Promise<Run> {
  const { transport, partition, model, stages, scan } = program;
  const place = partition ?? 0;
  const only = partition === undefined ? {} : { partitions: [partition] };
  const params = model();
  const source = from
    ? (await recover(params, holding(from), { transport, topic, ...only })).source
    : { from: new Map([[place, 0]]) };
  const rejections: { offset: number; reason: string }[] = [];
  const snapshots: Snapshot[] = [];
  const keep = (): void => {
    if (params.settled) snapshots.push(snapshotOf(params));
  };
  const updates$ = fromTransport(transport, { topic, ...only, ...source, until }).pipe(
    // Here everything before this event was dealt with, or waits in a stage.
    tap(keep),
    stages(params),
    scan(params, {
      rejections: { next: ({ reason, position }: Rejection) => rejections.push({ offset: position!.offset, reason }) },
    }),
    tap(() => snapshots.push(snapshotOf(params))),
    map(({ version, lr, gradientNorm, clipped, epoch, staleness }) => ({ version, lr, gradientNorm, clipped, epoch, staleness })),
    toArray(),
  );
  let error: unknown = null;
  const updates = await lastValueFrom(updates$).catch((cause: unknown) => {
    error = (cause as { code?: string }).code ?? cause;
    return [];
  });
  snapshots.push(snapshotOf(params));
  return { params, updates, rejections, snapshots, error, from: source.from.get(place) ?? 0 };
}

function snapshotOf(params: Parameters): Snapshot {
  const file = writeTensorFile(params.planStateDict(unsealedMetadata));
  seal(file);
  return { version: params.version, file };
}

/** A store that a crash left with one checkpoint. */
function holding({ version, file }: Snapshot): CheckpointStore {
  return {
    name: 'store',
    list: async () => [{ version, bytes: file.byteLength, savedAtMs: 0, pinned: false }],
    read: async () => file,
  } as Partial<CheckpointStore> as CheckpointStore;
}

/** All that a state holds, whatever the order of the parameters. */
function contentOf(params: Parameters): unknown {
  const { tensors, metadata } = readTensorFile(params.stateDict());
  const facts = JSON.parse(metadata['rxgrad.state'] ?? '{}');
  const names = params.names;
  const byName = (list?: unknown[]) => list && Object.fromEntries(list.map((value, i) => [names[i], value]));
  return {
    version: metadata['rxgrad.version'],
    tensors: Object.fromEntries(
      [...tensors].map(([name, { dims, data }]) => [name, { dims, bits: [...new Uint32Array(data.buffer)] }]),
    ),
    facts: {
      ...facts,
      counts: byName(facts.counts),
      groups: byName(facts.groups),
      averaged: byName(facts.averaged),
      history: facts.history && { versions: facts.history.versions, rows: facts.history.rows.toSorted() },
    },
  };
}

/** What a run from some state of another has to do as that one did. */
export function expectSame(resumed: Run, whole: Run, from: Snapshot): void {
  expect(resumed.error).toEqual(whole.error);
  if (whole.error === null) expect(resumed.updates).toEqual(whole.updates.filter(({ version }) => version > from.version));
  expect(resumed.rejections).toEqual(whole.rejections.filter(({ offset }) => offset >= resumed.from));
  expect(contentOf(resumed.params)).toEqual(contentOf(whole.params));
}
