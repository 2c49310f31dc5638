import { randomUUID } from 'node:crypto';
import { mkdirSync, watch } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Transport } from '../src/index.ts';
import type { LogRecord } from '../src/sources/transport.ts';

/** Where a run keeps its checkpoints, so that one can see when it is writing. */
export interface WatchedStore {
  readonly args: readonly string[];
  /** Resolves as soon as a checkpoint is begun. */
  begun(): Promise<void>;
  /** Whether the process that was killed has left a checkpoint half written. */
  leftHalf(): Promise<boolean>;
  close(): Promise<void>;
}

/** Opens a new one. */
export type OpenStore = () => Promise<WatchedStore>;

/** Stores in folders below this one. */
export function watchedFolders(parent: string): OpenStore {
  return async () => {
    const folder = join(parent, randomUUID());
    mkdirSync(folder);
    let begun = Promise.withResolvers<void>();
    const watcher = watch(folder, { recursive: true }, (_, name) => {
      if (!name?.endsWith('.part')) return;
      begun.resolve();
      begun = Promise.withResolvers();
    });
    return {
      args: ['--checkpoints', folder],
      begun: () => begun.promise,
      leftHalf: async () => (await readdir(folder, { recursive: true })).some((name) => name.endsWith('.part')),
      close: async () => watcher.close(),
    };
  };
}

/** Stores in topics of their own. */
export function watchedTopics(transport: Transport): OpenStore {
  return async () => {
    const topic = `checkpoints-${randomUUID()}`;
    await transport.createTopic(topic, { compacted: true });
    let begun = Promise.withResolvers<void>();
    // The ids of files of which there are records, and no head that tells how many.
    const open = new Set<string>();
    let next = 0;
    const consumption = await transport.consume({
      topic,
      from: 'beginning',
      deliver(_, __, records) {
        for (const record of records) note(record);
        next = records.at(-1)!.offset + 1;
      },
      onError: (error) => {
        throw error;
      },
    });

    function note({ key, value, headers }: LogRecord): void {
      if (!value) return;
      if (Buffer.from(key!).toString().endsWith('/head')) {
        open.delete(JSON.parse(Buffer.from(value).toString()).id);
        return;
      }
      open.add(String(headers.id));
      begun.resolve();
      begun = Promise.withResolvers();
    }

    return {
      args: ['--checkpoint-topic', topic],
      begun: () => begun.promise,
      async leftHalf() {
        const [end] = await transport.endOffsets(topic);
        while (next < end!) await new Promise((resolve) => setTimeout(resolve, 5));
        const half = open.size > 0;
        // It stays half for ever: what comes next is another one.
        open.clear();
        return half;
      },
      close: () => consumption.stop(),
    };
  };
}
