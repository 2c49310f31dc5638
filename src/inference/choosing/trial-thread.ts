import { parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { type SharedWeights, WeightsReader } from '../../params/weights-reader.ts';
import { beginWork, endWork } from '../at-work.ts';
import { LinkClient } from '../link-client.ts';
import { LocalRunner } from '../local-runner.ts';
import { type ModelSource, openSession } from '../open-session.ts';
import { type PlainFeeds, tensorsOf } from '../rebuilding/plain-feeds.ts';
import type { RunResult } from '../runner.ts';
import { LANES, type SharedLink } from '../thread-link.ts';
import { median } from './median.ts';

/** What the thread is given. */
export interface TrialSetup {
  /** The model with its weights as inputs. */
  readonly model: ModelSource;
  readonly options: InferenceSession.SessionOptions;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly weights: SharedWeights;
  /** Leads to a thread that runs the model with constant weights. */
  readonly link: SharedLink;
  /** At least one. */
  readonly requests: readonly PlainFeeds[];
  /** Whether the way to that thread and back counts. */
  readonly hops: boolean;
  /** Says here when it is at work. */
  readonly words: Int32Array;
}

/** What the thread says when it has measured. */
export interface TrialAnswer {
  readonly inputsMs: number;
  readonly rebuildMs: number;
}

const MOST_ROUNDS = 30;
const FEWEST_ROUNDS = 3;
/** Runs at a time: under load a thread is sent the next one while it is at one, so that it need not be woken for each. */
const BURST = 4;
/** After which no further round is begun, beyond the fewest. */
const ENOUGH_MS = 300;

const { model, options, inputNames, outputNames, weights, link, requests, hops, words } = workerData as TrialSetup;
// Waits for the other thread keep this one from ending.
const client = new LinkClient(link, inputNames, { ref: () => parentPort!.ref(), unref: () => parentPort!.unref() });
client.outputNames = outputNames;
parentPort!.on('message', () => {});

beginWork(words);
const { session } = await openSession(model, options);
const runner = new LocalRunner(session, WeightsReader.attach(weights));
endWork(words);
parentPort!.postMessage(await measure());
client.close();
link.port.close();
parentPort!.close();
beginWork(words);
await session.release();
endWork(words);

/** Runs both in turn, so that what else the machine does falls on both alike. */
async function measure(): Promise<TrialAnswer> {
  const kinds = requests.map((request) => ({ feeds: tensorsOf(request), inputs: [] as number[], constants: [] as number[] }));
  let hopMs = Infinity;
  const startedAt = performance.now();
  for (let round = 0; round <= MOST_ROUNDS; round++) {
    if (round > FEWEST_ROUNDS && performance.now() - startedAt > ENOUGH_MS) break;
    for (const { feeds, inputs, constants } of kinds) {
      beginWork(words);
      const own = await burst(() => runner.run(feeds, null), 1);
      endWork(words);
      const other = await burst(() => client.run(feeds, null), LANES);
      // The first plans and allocates.
      if (round === 0) continue;
      inputs.push(own.runMs);
      constants.push(other.runMs);
      hopMs = Math.min(hopMs, other.wholeMs - other.runMs);
    }
  }
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    inputsMs: mean(kinds.map(({ inputs }) => median(inputs))),
    // The least: where cores are short, more threads want them now than will when either strategy serves.
    rebuildMs: mean(kinds.map(({ constants }) => median(constants))) + (hops ? Math.max(0, hopMs) : 0),
  };
}

/** Milliseconds a run, of some with so many of them on their way. */
async function burst(run: () => Promise<RunResult>, onTheirWay: number): Promise<{ runMs: number; wholeMs: number }> {
  const startedAt = performance.now();
  let durationMs = 0;
  const inTurn = async (): Promise<void> => {
    for (let i = 0; i < BURST; i += onTheirWay) {
      const result = await run();
      durationMs += result.durationMs;
    }
  };
  await Promise.all(Array.from({ length: onTheirWay }, inTurn));
  return { runMs: durationMs / BURST, wholeMs: (performance.now() - startedAt) / BURST };
}
