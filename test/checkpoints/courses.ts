import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CheckpointStore,
  encodeEvent,
  type FromTransportOptions,
  fromTransport,
  gradientBatch,
  type NewRecord,
  Parameters,
  type RecoverOptions,
  recover,
  sgd,
  type Transport,
} from 'rxgrad';
import { lastValueFrom, tap } from 'rxjs';
import { afterAll, beforeAll } from 'vitest';
import { seal, unsealedMetadata } from '../../src/checkpoints/checkpoint-file.ts';
import { writeTensorFile } from '../../src/params/tensor-file.ts';

export const topic = 'gradients';
export const model = () => Parameters.create({ w: { dims: [4] } });

/** Batches of a worker; those of another worker are other ones. */
export function batches(worker: string, count: number, from = 0): NewRecord[] {
  return Array.from({ length: count }, (_, i) => {
    const data = Float32Array.from({ length: 4 }, (_, at) => Math.sin(worker.length * 100 + 7 * (from + i) + at));
    return encodeEvent(gradientBatch({ gradients: { w: data }, worker, sequence: from + i }));
  });
}

/** A checkpoint of what parameters are at. */
export function checkpointOf(params: Parameters): Uint8Array {
  const file = writeTensorFile(params.planStateDict(unsealedMetadata));
  seal(file);
  return file;
}

/** Goes on from the newest checkpoint to the end of the log, and writes one at every `every`-th version. */
export async function train(
  transport: Transport,
  store: CheckpointStore,
  every: number,
  options: Partial<RecoverOptions & FromTransportOptions> = {},
): Promise<Parameters> {
  const params = model();
  const files: [number, Uint8Array][] = [];
  const { upTo, partitions } = options;
  const { source } = await recover(params, store, { transport, topic, ...(upTo === undefined ? {} : { upTo }), partitions });
  await lastValueFrom(
    fromTransport(transport, { topic, ...source, until: 'end' }).pipe(
      sgd(params, { lr: 0.1 }),
      tap(({ version }) => {
        if (version % every === 0) files.push([version, checkpointOf(params)]);
      }),
    ),
    { defaultValue: null },
  );
  for (const [version, file] of files) await store.write(version, file);
  return params;
}

/** The warnings of rxgrad while something is done, by code. */
export async function warningsOf(action: () => Promise<unknown>): Promise<{ code: string; message: string }[]> {
  const heard: { code: string; message: string }[] = [];
  const listen = (warning: Error & { code?: string }) => {
    if (warning.code?.startsWith('RXGRAD_')) heard.push({ code: warning.code, message: warning.message });
  };
  // Warnings are told in the next turn: those of before are not of this.
  await new Promise((resolve) => setImmediate(resolve));
  process.on('warning', listen);
  try {
    await action();
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.off('warning', listen);
  }
  return heard;
}

/** Folders of a test file, which are removed after it. */
export function folders(): () => string {
  let root = '';
  let count = 0;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'rxgrad-courses-'));
  });
  // A writer that was fenced may still be at its last file.
  afterAll(() => rm(root, { recursive: true, force: true, maxRetries: 10 }));
  return () => join(root, String(count++));
}

/** The bits of weights. */
export const bitsOf = (params: Parameters) => [...new Uint32Array(params.get('w').data.slice().buffer)];
