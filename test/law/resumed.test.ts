import fc from 'fast-check';
import {
  type CheckpointStore,
  fromTransport,
  memoryTransport,
  type Parameters,
  type Rejection,
  recover,
  type Transport,
} from 'rxgrad';
import { lastValueFrom, map, tap, toArray } from 'rxjs';
import { expect, it, vi } from 'vitest';
import { seal, unsealedMetadata } from '../../src/checkpoints/checkpoint-file.ts';
import { readTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import type { Until } from '../../src/sources/ending.ts';
import {
  chains,
  logs,
  model,
  type Optimizer,
  optimizers,
  optionsOf,
  orders,
  recordsOf,
  stagesOf,
  takesAnyMetric,
} from './programs.ts';

const topic = 'gradients';
const programs = Number(process.env.RXGRAD_PROGRAMS ?? 150);
const seed = process.env.RXGRAD_SEED === undefined ? {} : { seed: Number(process.env.RXGRAD_SEED) };

interface Program {
  readonly transport: Transport;
  readonly chain: readonly string[];
  readonly optimizer: Optimizer;
}

/** A state that a crash may leave, as a checkpoint holds it. */
interface Snapshot {
  readonly version: number;
  readonly file: Uint8Array;
}

interface Run {
  readonly params: Parameters;
  readonly updates: readonly { readonly version: number }[];
  readonly rejections: readonly { readonly offset: number; readonly reason: string }[];
  readonly snapshots: readonly Snapshot[];
  readonly error: unknown;
  /** Where the log was read from. */
  readonly from: number;
}

/** Runs a program from a snapshot, or from the beginning, up to the end of the log or an offset. */
async function run(program: Program, order: readonly number[], from: Snapshot | null, until: Until = 'end'): Promise<Run> {
  const { transport, chain, optimizer } = program;
  const into = model(order);
  const params = optimizer.average ? into.twin() : into;
  const source = from ? (await recover(params, holding(from), { transport, topic })).source : { from: new Map([[0, 0]]) };
  const rejections: { offset: number; reason: string }[] = [];
  const snapshots: Snapshot[] = [];
  const keep = (): void => {
    if (params.settled) snapshots.push(snapshotOf(params));
  };
  const updates$ = fromTransport(transport, { topic, ...source, until }).pipe(
    // Here everything before this event was dealt with, or waits in a stage.
    tap(keep),
    stagesOf(chain, params),
    optimizer.scan[1](params, {
      ...optionsOf(optimizer),
      rejections: { next: ({ reason, position }: Rejection) => rejections.push({ offset: position!.offset, reason }) },
      ...(optimizer.average ? { average: { into, ...optimizer.average } } : {}),
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
  return { params, updates, rejections, snapshots, error, from: source.from.get(0) ?? 0 };
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
function expectSame(resumed: Run, whole: Run, from: Snapshot): void {
  expect(resumed.error).toEqual(whole.error);
  if (whole.error === null) expect(resumed.updates).toEqual(whole.updates.filter(({ version }) => version > from.version));
  expect(resumed.rejections).toEqual(whole.rejections.filter(({ offset }) => offset >= resumed.from));
  expect(contentOf(resumed.params)).toEqual(contentOf(whole.params));
}

it(
  'a run that goes on from any state of another gives the same bits, state, rates and rejections as the uninterrupted one',
  async () => {
    vi.spyOn(process, 'emitWarning').mockReturnValue();
    await fc.assert(
      fc.asyncProperty(
        logs,
        chains,
        optimizers,
        orders,
        fc.array(fc.nat(), { minLength: 2, maxLength: 4 }),
        async (log, chain, optimizer, order, points) => {
          const transport = memoryTransport();
          await transport.createTopic(topic);
          await transport.produce(topic, recordsOf(log, takesAnyMetric(optimizer)));
          const program = { transport, chain, optimizer };
          const whole = await run(program, [0, 1, 2], null);

          // Crashes, one after the other: each leaves some state of the run before it.
          let last = whole;
          for (const point of points) {
            const left = last.snapshots[point % last.snapshots.length]!;
            last = await run(program, order, left);
            expectSame(last, whole, left);
          }
          // A stop half way, in order.
          const stopped = await run(program, order, null, { offsets: new Map([[0, points[0]! % (log.length + 1)]]) });
          const end = stopped.snapshots.at(-1)!;
          expectSame(await run(program, [0, 1, 2], end), whole, end);
          await transport.close();
        },
      ),
      { numRuns: programs, ...seed },
    );
  },
  60_000 + 1000 * programs,
);
