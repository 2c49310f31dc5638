import { MessageChannel } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import type { Parameters } from '../../params/parameters.ts';
import type { SharedWeights } from '../../params/weights-reader.ts';
import { threadFile } from '../../threads.ts';
import { startLinkedThread } from '../linked-thread.ts';
import type { ModelSource, ThreadModel } from '../open-session.ts';
import type { PlainFeeds } from '../rebuilding/plain-feeds.ts';
import { COUNTS, linkWords, REQUESTED, type SharedLink } from '../thread-link.ts';
import type { ConstantsAnswer, ConstantsSetup } from './constants-thread.ts';
import type { StrategyFigures } from './strategy-choice.ts';
import type { TrialAnswer, TrialSetup } from './trial-thread.ts';

/** A model as both strategies run it. */
export interface BothModels {
  readonly inputs: { readonly source: ModelSource; readonly options: InferenceSession.SessionOptions };
  readonly constant: ThreadModel;
}

/**
 * Measures both strategies over the live weights, in threads of their own, while predictions go on. `hops` says to count the way
 * to a thread and back for rebuild, as where inputs needs none.
 */
export async function tryStrategies(
  { inputs, constant }: BothModels,
  params: Parameters,
  requests: readonly PlainFeeds[],
  hops: boolean,
): Promise<Omit<StrategyFigures, 'batch'>> {
  const { port1, port2 } = new MessageChannel();
  const words = linkWords();
  const { inputNames } = constant;
  const link = { words, port: port2 };
  const constants = start<ConstantsSetup, ConstantsAnswer>('constants-thread', link, params, {
    model: constant.source,
    options: constant.options,
    inputNames,
    weights: params.share(),
    weightBytes: params.byteLength,
    link,
    request: requests[0]!,
  });
  try {
    const { buildMs, outputNames } = await constants.answer;
    const own = linkWords();
    const trial = start<TrialSetup, TrialAnswer>('trial-thread', { words: own, port: port1 }, params, {
      model: inputs.source,
      options: inputs.options,
      inputNames,
      outputNames,
      weights: params.share(),
      link: { words, port: port1 },
      requests,
      hops,
      words: own,
    });
    try {
      return { ...(await trial.answer), buildMs };
    } finally {
      await trial.ended;
    }
  } finally {
    // Whatever came of it, nobody asks the other thread any more.
    Atomics.or(words, REQUESTED, COUNTS);
    Atomics.notify(words, REQUESTED);
    await constants.ended;
  }
}

function start<Setup extends { readonly weights: SharedWeights }, Answer>(
  name: string,
  link: SharedLink,
  params: Parameters,
  workerData: Setup,
): { answer: Promise<Answer>; ended: Promise<void> } {
  const file = threadFile(import.meta.url, `./${name}`);
  const { worker, ended } = startLinkedThread(file, 'rxgrad strategies', link, params, workerData);
  const answer = new Promise<Answer>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('a thread ended before it had measured')));
  });
  return { answer, ended };
}
