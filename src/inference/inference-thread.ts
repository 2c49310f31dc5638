import { parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { isRxgradError } from '../errors.ts';
import { type SharedWeights, WeightsReader } from '../params/weights-reader.ts';
import { LinkServer } from './link-server.ts';
import { LocalRunner } from './local-runner.ts';
import { type ModelSource, type Opening, openSession } from './open-session.ts';
import type { SharedLink } from './thread-link.ts';

/** What the thread is given. */
export interface ThreadTask {
  readonly model: ModelSource;
  readonly options: InferenceSession.SessionOptions;
  readonly weights: SharedWeights;
  readonly link: SharedLink;
  /** The inputs that requests carry, in their order. */
  readonly inputNames: readonly string[];
}

/** What the thread says once, when it has opened the model or could not. */
export type ThreadOpening = Opening | { readonly got: string };

const { model, options, weights, link, inputNames } = workerData as ThreadTask;

const session = await open();
if (session) {
  await serve(session);
  await session.release();
}

async function open(): Promise<InferenceSession | null> {
  let opening: ThreadOpening;
  let opened: InferenceSession | null = null;
  try {
    ({ session: opened, opening } = await openSession(model, options));
  } catch (error) {
    opening = { got: isRxgradError(error) ? String(error.details.got) : String(error) };
  }
  parentPort!.postMessage(opening);
  return opened;
}

async function serve(opened: InferenceSession): Promise<void> {
  const runner = new LocalRunner(opened, WeightsReader.attach(weights));
  await new LinkServer(link, inputNames).serve(opened.outputNames, (feeds, slot) => runner.run(feeds, slot));
}
