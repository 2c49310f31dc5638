import { parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { type SharedWeights, WeightsReader } from '../../params/weights-reader.ts';
import { LinkServer } from '../link-server.ts';
import { liveRun } from '../live-run.ts';
import { LocalRunner } from '../local-runner.ts';
import { type ModelSource, openSession } from '../open-session.ts';
import { openConstant } from '../rebuilding/open-constant.ts';
import { type PlainFeeds, tensorsOf } from '../rebuilding/plain-feeds.ts';
import type { Feeds } from '../runner.ts';
import type { SharedLink } from '../thread-link.ts';

/** What the thread is given. */
export interface TrialSetup {
  /** The model with its weights as inputs. */
  readonly inputs: ModelSource;
  /** The model whose weights are brought to it apart. */
  readonly constant: ModelSource;
  readonly options: InferenceSession.SessionOptions;
  readonly inputNames: readonly string[];
  readonly weights: SharedWeights;
  readonly weightBytes: number;
  readonly link: SharedLink;
  /** At least one. */
  readonly requests: readonly PlainFeeds[];
}

/** What the thread says when it has measured; from then on it answers requests with constant weights until the link is closed. */
export interface TrialAnswer {
  readonly inputsMs: number;
  readonly rebuildMs: number;
  readonly buildMs: number;
  readonly outputNames: readonly string[];
}

const MOST_ROUNDS = 30;
const FEWEST_ROUNDS = 5;
/** After which no further round is begun, beyond the fewest. */
const ENOUGH_MS = 300;
const MOST_BUILDS = 3;

const { inputs, constant, options, inputNames, weights, weightBytes, link, requests } = workerData as TrialSetup;
const reader = WeightsReader.attach(weights);
const copy = new SharedArrayBuffer(weightBytes);
const feeds = requests.map(tensorsOf);

const { session, buildMs } = await build();
const { session: withInputs } = await openSession(inputs, options);
const runner = new LocalRunner(withInputs, reader);
const times = await measure();
const answer: TrialAnswer = { ...times, buildMs, outputNames: session.outputNames };
parentPort!.postMessage(answer);
await new LinkServer(link, inputNames).serve(session.outputNames, async (request) => {
  const startedAt = performance.now();
  const outputs = await session.run(request);
  const facts = { version: 0, madeAtMs: 0, topic: -1, partition: 0, offset: 0 };
  return { outputs, weights: facts, durationMs: performance.now() - startedAt };
});
await session.release();
await withInputs.release();

async function build(): Promise<{ session: InferenceSession; buildMs: number }> {
  const laps: number[] = [];
  for (;;) {
    const startedAt = performance.now();
    const slot = reader.acquire();
    reader.copy(slot, new Uint8Array(copy));
    reader.release(slot);
    const { session: built } = await openConstant(constant, options, copy);
    await built.run(feeds[0]!);
    laps.push(performance.now() - startedAt);
    const isEnough = laps.length === MOST_BUILDS || laps[0]! > ENOUGH_MS;
    if (isEnough) return { session: built, buildMs: median(laps) };
    await built.release();
  }
}

/** Runs both in turn, so that what else the machine does falls on both alike. */
async function measure(): Promise<{ inputsMs: number; rebuildMs: number }> {
  const runInputs = (request: Feeds) => liveRun(runner, reader, link.words, request, null);
  const runConstants = (request: Feeds) => session.run(request);
  const laps = feeds.map(() => ({ inputs: [] as number[], constants: [] as number[] }));
  const startedAt = performance.now();
  for (let round = 0; round <= MOST_ROUNDS; round++) {
    if (round > FEWEST_ROUNDS && performance.now() - startedAt > ENOUGH_MS) break;
    for (const [i, request] of feeds.entries()) {
      const inputsMs = await lap(runInputs, request);
      const constantsMs = await lap(runConstants, request);
      // The first plans and allocates.
      if (round === 0) continue;
      laps[i]!.inputs.push(inputsMs);
      laps[i]!.constants.push(constantsMs);
    }
  }
  const mean = (of: (lap: (typeof laps)[number]) => number[]): number =>
    laps.reduce((sum, one) => sum + median(of(one)), 0) / laps.length;
  return { inputsMs: mean((one) => one.inputs), rebuildMs: mean((one) => one.constants) };
}

async function lap(run: (request: Feeds) => Promise<unknown>, request: Feeds): Promise<number> {
  const startedAt = performance.now();
  await run(request);
  return performance.now() - startedAt;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
