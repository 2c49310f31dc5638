import { parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { isRxgradError } from '../errors.ts';
import { type SharedWeights, WeightsReader } from '../params/weights-reader.ts';
import { LocalRunner } from './local-runner.ts';
import { type ModelOutput, type ModelSource, openSession, outputsOf } from './open-session.ts';
import {
  ANSWERED,
  answerNumbers,
  BUSY,
  COUNTS,
  HELD,
  LANES,
  REQUESTED,
  type SharedLink,
  slotOf,
  TensorLane,
} from './thread-link.ts';

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
export type ThreadOpening = { readonly outputs: readonly ModelOutput[] } | { readonly got: string };

const { model, options, weights, link, inputNames } = workerData as ThreadTask;
const { words } = link;
const requests = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 0, lane));
const answers = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 1, lane));

const session = await open();
if (session) {
  const reader = WeightsReader.attach(weights);
  await serve(new LocalRunner(session, reader), reader, session.outputNames);
  await session.release();
}

async function open(): Promise<InferenceSession | null> {
  let opening: ThreadOpening;
  let opened: InferenceSession | null = null;
  try {
    opened = await openSession(model, options);
    opening = { outputs: outputsOf(opened) };
  } catch (error) {
    opening = { got: isRxgradError(error) ? String(error.details.got) : String(error) };
  }
  parentPort!.postMessage(opening);
  return opened;
}

/** Answers requests in their order until the link is closed. In between the thread is blocked, not idle: a wake takes less so. */
async function serve(runner: LocalRunner, reader: WeightsReader, outputNames: readonly string[]): Promise<void> {
  for (let answered = 0; ; ) {
    Atomics.store(words, BUSY, 1);
    const requested = Atomics.load(words, REQUESTED);
    if (requested === answered || requested < 0) {
      Atomics.store(words, BUSY, 0);
      Atomics.notify(words, BUSY);
      Atomics.wait(words, REQUESTED, requested);
    } else if (requested === answered + COUNTS) {
      return;
    } else {
      await answer(runner, reader, outputNames, answered % LANES);
      answered = (answered + 1) % COUNTS;
      Atomics.store(words, ANSWERED, answered);
      Atomics.notify(words, ANSWERED);
    }
  }
}

async function answer(runner: LocalRunner, reader: WeightsReader, outputNames: readonly string[], lane: number): Promise<void> {
  // One that cannot be read ends the thread: what follows could be taken for another.
  const request = requests[lane]!.read(inputNames);
  if (typeof request === 'string') return answers[lane]!.fail(request);
  const asked = slotOf(request.numbers);
  const slot = asked ?? reader.acquire();
  // Whoever finds this thread dead lets go of it.
  if (asked === null) Atomics.store(words, HELD, slot + 1);
  try {
    const { outputs, weights: facts, durationMs } = await runner.run(request.tensors, slot);
    answers[lane]!.write(
      answerNumbers(facts, durationMs),
      outputNames.map((name) => outputs[name]!),
    );
  } catch (error) {
    answers[lane]!.fail((error as Error).message);
  } finally {
    if (asked === null) {
      Atomics.store(words, HELD, 0);
      reader.release(slot);
    }
  }
}
