import { MessageChannel, Worker } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import type { Parameters } from '../../params/parameters.ts';
import { LinkClient, letGo } from '../link-client.ts';
import type { ModelSource } from '../open-session.ts';
import { type PlainFeeds, tensorsOf } from '../rebuilding/plain-feeds.ts';
import type { Feeds } from '../runner.ts';
import { linkWords } from '../thread-link.ts';
import type { StrategyFigures } from './strategy-choice.ts';
import type { TrialAnswer, TrialSetup } from './trial-thread.ts';

/** A model as both strategies run it. */
export interface BothModels {
  readonly inputs: ModelSource;
  readonly constant: ModelSource;
  readonly options: InferenceSession.SessionOptions;
  readonly inputNames: readonly string[];
}

const HOPS = 20;

// As this file: TypeScript from the sources, JavaScript from what is built.
const threadFile = new URL(import.meta.url.endsWith('.ts') ? './trial-thread.ts' : './trial-thread.js', import.meta.url);

/**
 * Measures both strategies over the live weights, in a thread of its own, while predictions go on. `hops` says to count the way
 * to a thread and back for rebuild, as where inputs needs none.
 */
export async function tryStrategies(
  models: BothModels,
  params: Parameters,
  requests: readonly PlainFeeds[],
  hops: boolean,
): Promise<Omit<StrategyFigures, 'batch'>> {
  const { port1, port2 } = new MessageChannel();
  const words = linkWords();
  const workerData: TrialSetup = {
    ...models,
    weights: params.share(),
    weightBytes: params.byteLength,
    link: { words, port: port2 },
    requests,
  };
  const worker = new Worker(threadFile, { workerData, transferList: [port2], name: 'rxgrad strategies' });
  const link = new LinkClient({ words, port: port1 }, models.inputNames, worker);
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve())).then(() => {
    letGo(words, params);
    link.fail(new Error('the thread that measured ended'));
  });
  worker.unref();
  try {
    const { outputNames, inputsMs, rebuildMs, buildMs } = await answerOf(worker);
    link.outputNames = outputNames;
    const hopMs = hops ? await measureHop(link, requests.map(tensorsOf)) : 0;
    return { inputsMs, rebuildMs: rebuildMs + hopMs, buildMs };
  } finally {
    link.close();
    await ended;
  }
}

/** The lower quartile: what it takes while this thread is not busy with what rebuild would take from it. */
async function measureHop(link: LinkClient, requests: readonly Feeds[]): Promise<number> {
  const laps: number[] = [];
  for (let hop = 0; hop < HOPS; hop++) {
    const startedAt = performance.now();
    const { durationMs } = await link.run(requests[hop % requests.length]!, null);
    laps.push(performance.now() - startedAt - durationMs);
  }
  return laps.sort((a, b) => a - b)[HOPS >> 2]!;
}

function answerOf(worker: Worker): Promise<TrialAnswer> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the thread ended before it had measured')));
  });
}
