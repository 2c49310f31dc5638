import { parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { isRxgradError } from '../../errors.ts';
import type { SlotFacts } from '../../params/left-right.ts';
import { type SharedWeights, WeightsReader } from '../../params/weights-reader.ts';
import { beginWork, endWork } from '../at-work.ts';
import { LinkServer } from '../link-server.ts';
import type { ModelSource, Opening } from '../open-session.ts';
import type { SharedLink } from '../thread-link.ts';
import { openConstant } from './open-constant.ts';
import { type PlainFeeds, tensorsOf } from './plain-feeds.ts';

/** What the thread is given. */
export interface BuildingSetup {
  /** The model without its weights. */
  readonly model: ModelSource;
  readonly options: InferenceSession.SessionOptions;
  readonly inputNames: readonly string[];
  readonly weights: SharedWeights;
  readonly link: SharedLink;
}

/**
 * What the thread is asked: to copy the live weights; to build a session of a copy, and to run it until its link is closed; to end.
 */
export type BuildingTask =
  | { readonly kind: 'copy'; readonly to: SharedArrayBuffer }
  | {
      readonly kind: 'build';
      readonly from: SharedArrayBuffer;
      readonly facts: SlotFacts;
      readonly requests: readonly PlainFeeds[];
    }
  | { readonly kind: 'end' };

/** What the thread says when it has done so. */
export type BuildingAnswer =
  | { readonly kind: 'copied'; readonly facts: SlotFacts }
  | { readonly kind: 'built'; readonly opening: Opening }
  | { readonly kind: 'released' }
  | { readonly kind: 'failed'; readonly problem: string };

const { model, options, inputNames, weights, link } = workerData as BuildingSetup;
const reader = WeightsReader.attach(weights);
const server = new LinkServer(link, inputNames);

parentPort!.on('message', async (task: BuildingTask) => {
  beginWork(link.words);
  try {
    if (task.kind === 'copy') answer({ kind: 'copied', facts: copyLive(task.to) });
    else if (task.kind === 'build') await buildAndServe(task);
    else parentPort!.close();
  } catch (error) {
    answer({ kind: 'failed', problem: isRxgradError(error) ? String(error.details.got) : (error as Error).message });
  } finally {
    endWork(link.words);
  }
});

/** Copies, because a step would have to wait for a build that reads the weights in place. */
function copyLive(to: SharedArrayBuffer): SlotFacts {
  const slot = reader.acquire();
  try {
    reader.copy(slot, new Uint8Array(to));
    return reader.facts(slot);
  } finally {
    reader.release(slot);
  }
}

async function buildAndServe({ from, facts, requests }: Extract<BuildingTask, { kind: 'build' }>): Promise<void> {
  const { session, opening } = await openConstant(model, options, from);
  try {
    // Where a request fails, whoever makes it next will hear of it.
    for (const request of requests) await session.run(tensorsOf(request)).catch(() => {});
    answer({ kind: 'built', opening });
    await server.serve(session.outputNames, async (feeds) => {
      const startedAt = performance.now();
      const result = await session.run(feeds);
      return { outputs: result, weights: facts, durationMs: performance.now() - startedAt };
    });
  } finally {
    await session.release();
  }
  answer({ kind: 'released' });
}

function answer(message: BuildingAnswer): void {
  parentPort!.postMessage(message);
}
