import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { copyBytes } from '../kernels/kernels.ts';
import type { Parameters } from '../params/parameters.ts';
import { COURSE } from '../params/state-dict.ts';
import { threadFile } from '../threads.ts';
import { unsealedMetadata } from './checkpoint-file.ts';

/** What the thread is given: a file with its header in place, and what is still to be copied into it. */
export interface SealingTask {
  readonly file: SharedArrayBuffer;
  readonly parts: readonly { readonly at: number; readonly from: Uint8Array }[];
}

// So much is copied sooner than a thread is woken.
const AT_ONCE_BYTES = 2 ** 20;

const sealingThread = threadFile(import.meta.url, './sealing-thread');

/**
 * Makes checkpoints of parameters on a thread of its own, which copies weights and state out of the shared memory, and computes
 * the checksum. Of all that only a large copy keeps the scan waiting, and never this thread's event loop.
 */
export class Sealer {
  #thread: Worker | null = null;
  #file = new SharedArrayBuffer(0);

  /** Takes what parameters are at now, between two steps. The file is lent until the next call, which must not overlap. */
  async seal(params: Parameters): Promise<Uint8Array> {
    const { header, parts, byteLength } = params.planStateDict({ ...unsealedMetadata, [COURSE]: params.course });
    if (this.#file.byteLength !== byteLength) this.#file = new SharedArrayBuffer(byteLength);
    const file = this.#file;
    const bytes = new Uint8Array(file);
    bytes.set(header);
    const views = parts.map(({ at, data }) => ({ at, from: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) }));
    // What is not shared would be copied for the thread, too.
    const later = ({ from }: (typeof views)[number]): boolean =>
      byteLength > AT_ONCE_BYTES && from.buffer instanceof SharedArrayBuffer;
    const left = views.filter(later);
    for (const view of views) if (!later(view)) copyBytes(view.from, bytes, view.at);
    const { copied, sealed } = this.#send({ file, parts: left });
    if (left.length > 0) params.seat.hold(copied);
    await sealed;
    return bytes;
  }

  /** Lets the thread end by itself: one that is terminated while it makes code may take the process with it (V8 13). */
  async close(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    // The number of one that has ended is −1.
    if (!thread || thread.threadId === -1) return;
    const ended = once(thread, 'exit').catch(() => {});
    thread.ref();
    thread.postMessage(null);
    await ended;
  }

  #send(task: SealingTask): { copied: Promise<void>; sealed: Promise<void> } {
    this.#thread ??= new Worker(sealingThread, { name: 'rxgrad checkpoints' });
    const thread = this.#thread;
    const copied = Promise.withResolvers<void>();
    const sealed = Promise.withResolvers<void>();
    const hear = (message: 'copied' | 'sealed'): void => (message === 'copied' ? copied : sealed).resolve();
    const fail = (cause: unknown): void => {
      this.#thread = null;
      for (const { reject } of [copied, sealed]) reject(new Error('the thread that makes checkpoints ended', { cause }));
    };
    thread.on('message', hear).once('error', fail).once('exit', fail);
    // What is under way has to end; only then the thread keeps no process alive.
    thread.ref();
    thread.postMessage(task);
    const done = sealed.promise.finally(() => {
      thread.off('message', hear).off('error', fail).off('exit', fail);
      thread.unref();
    });
    copied.promise.catch(() => {});
    return { copied: copied.promise, sealed: done };
  }
}
