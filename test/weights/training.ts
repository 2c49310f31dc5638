import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import {
  type GradientBatch,
  gradientBatch,
  type LogRecord,
  memoryTransport,
  optimizer,
  Parameters,
  type PublishWeightsOptions,
  publishWeights,
  type Rejection,
  type Transport,
  type WeightsUpdate,
  weightsFrom,
} from 'rxgrad';
import { lastValueFrom, map, Subject, tap, toArray } from 'rxjs';
import type { OptimizerConfig } from '../../src/optimizers/optimizer.ts';
import { readAll } from '../../src/sources/read-all.ts';

export const rows = 40;

export const specs = {
  emb: { dims: [rows, 30] },
  // Its rows are larger than half a part of 4 KiB.
  wide: { dims: [8, 700] },
  'dense.w': { dims: [5, 4] },
  'emb.values': { dims: [3] },
  scale: { dims: [] },
  empty: { dims: [0, 2] },
};

/** Which rows of the table a batch has, and which of the dense parameters. */
export interface Batch {
  readonly rows: readonly number[];
  /** A row of the wide one, or none. */
  readonly wide?: number | null;
  readonly dense: readonly string[];
  readonly seed: number;
}

/** Different numbers for each seed. */
export function batchOf({ rows: touched, wide = null, dense, seed }: Batch, table = 'emb', from = 0): GradientBatch {
  const values = (length: number, salt: number) => Float32Array.from({ length }, (_, i) => Math.sin(seed * 31 + salt * 7 + i));
  const gradients = {
    ...(touched.length > 0
      ? {
          [table]: {
            dims: [touched.length, 30],
            indices: touched.map((row) => row - from),
            values: values(30 * touched.length, 1),
          },
        }
      : {}),
    ...(wide === null ? {} : { wide: { dims: [1, 700], indices: [wide], values: values(700, 5) } }),
    ...Object.fromEntries(
      dense.map((name, i) => {
        const { dims } = specs[name as keyof typeof specs];
        return [
          name,
          {
            dims,
            data: values(
              dims.reduce((a: number, b) => a * b, 1),
              2 + i,
            ),
          },
        ];
      }),
    ),
  };
  return gradientBatch({ gradients });
}

/** Every bit of the weights, by name. */
export function bitsOf(params: Parameters): string {
  return JSON.stringify([...params].map(({ name, data }) => [name, [...new Uint32Array(data.slice().buffer)]]));
}

export type History = Map<number, string>;

/** A scan that publishes, and notes the bits of every version that it comes to. */
export class Training {
  readonly params: Parameters;
  readonly history: History;
  readonly done: Promise<unknown>;
  error: unknown = null;
  readonly #batches$ = new Subject<GradientBatch>();
  #sent = 0;
  #applied = 0;
  readonly #unsubscribe: () => void;

  constructor(
    transport: Transport,
    options: PublishWeightsOptions,
    {
      params = Parameters.create(specs),
      history = new Map() as History,
      config = { type: 'Momentum', lr: 0.1, momentum: 0.9 } as OptimizerConfig,
      average = false,
      // A training that goes on from a checkpoint is of the same course.
      course = 'a course',
    } = {},
  ) {
    params.course = course;
    this.params = params;
    this.history = history;
    const into = average ? params.twin() : null;
    const updates$ = this.#batches$.pipe(
      optimizer(params, config, { ...(into ? { average: { into, decay: 0.5 } } : {}), threads: 0 }),
      tap((update: WeightsUpdate) => {
        this.#applied += 1;
        history.set(update.version, bitsOf(update.average ?? update.params));
      }),
      publishWeights(transport, options),
    );
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.done = promise;
    const subscription = updates$.subscribe({
      error: (error) => {
        this.error = error;
        resolve(error);
      },
      complete: () => resolve(null),
    });
    this.#unsubscribe = () => subscription.unsubscribe();
  }

  push(batch: GradientBatch): void {
    this.#sent += 1;
    this.#batches$.next(batch);
  }

  /** Resolves when every batch was applied. */
  async applied(): Promise<void> {
    while (this.#applied < this.#sent && !this.error) await eventLoopTurn();
  }

  async complete(): Promise<void> {
    await this.applied();
    this.#batches$.complete();
    await this.done;
  }

  /** Goes away without a word. */
  crash(): void {
    this.#unsubscribe();
  }
}

/** What a replica showed of a topic as it stands: versions and bits, and what it refused. */
export async function replay(transport: Transport, topic: string, options: { into?: Parameters; maxBytes?: number } = {}) {
  const rejections: Rejection[] = [];
  const shown$ = weightsFrom(transport, {
    topic,
    model: 'm',
    until: 'end',
    rejections: { next: (rejection) => rejections.push(rejection) },
    ...options,
  }).pipe(
    tap(({ params, version }) => {
      if (params.liveVersion !== version) throw new Error(`version ${version} is not live`);
    }),
    // While they are lent.
    map((update) => ({ version: update.version, bits: bitsOf(update.params), update })),
    toArray(),
  );
  return { shown: await lastValueFrom(shown$), rejections };
}

export async function recordsOf(transport: Transport, topic: string): Promise<LogRecord[]> {
  const records: LogRecord[] = [];
  await readAll(transport, topic, {}, (record) => {
    records.push(record);
  });
  return records;
}

/** A topic with these records. */
export async function topicOf(records: readonly LogRecord[]): Promise<Transport> {
  const transport = memoryTransport();
  await transport.createTopic('weights');
  await transport.produce('weights', records);
  return transport;
}

/** As compaction leaves a log whose records before an offset it has gone over. */
export function compacted(records: readonly LogRecord[], before: number): LogRecord[] {
  const newest = new Map<string, number>();
  for (const { key, offset } of records) if (offset < before) newest.set(Buffer.from(key!).toString(), offset);
  return records.filter(({ key, offset }) => offset >= before || newest.get(Buffer.from(key!).toString()) === offset);
}

export const versionOf = ({ headers }: LogRecord): number => Number(/version=(\d+)/.exec(String(headers.ce_weights))?.[1]);
export const kindOf = ({ headers }: LogRecord): string | undefined => /kind=(\w+)/.exec(String(headers.ce_weights))?.[1];
