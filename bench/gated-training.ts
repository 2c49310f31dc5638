import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Tensor } from 'onnxruntime-node';
import { Subject } from 'rxjs';
import { seaAbruptDrift } from '../pipelines/streams/sea.ts';
import { mlpGradients } from '../src/autodiff/mlp-gradients.ts';
import { mlpPlan } from '../src/autodiff/mlp-plan.ts';
import {
  clipByGlobalNorm,
  type GateDecision,
  type GateOptions,
  gate,
  gradientBatch,
  HotSwapSession,
  hotSwap,
  type LabelledExamples,
  momentum,
  type TrainingEvent,
} from '../src/index.ts';
import { readModel } from '../src/inference/onnx/model.ts';

const model = fileURLToPath(new URL('../pipelines/drift/mlp.onnx', import.meta.url));

export interface GatedTrainingOptions {
  /** Batches of the stream, and the first and last of those whose labels reach the trainer flipped. */
  readonly batches: number;
  readonly flipped: readonly [from: number, to: number];
  readonly batchSize: number;
  /** Concepts of the stream, one after the other, each as long: 1 for none that changes. */
  readonly concepts: number;
  /** Batches until the labels of one are known. */
  readonly delay: number;
  readonly seed: number;
  /** Null for none: every update goes live. */
  readonly gate: Pick<GateOptions, 'margin' | 'maxExamples'> | null;
}

/** How things stood as a batch was predicted. */
export interface Moment {
  readonly batch: number;
  readonly live: number;
  /** Share of its events that were predicted right. */
  readonly served: number;
  /** Accuracy on held-out events, of the live version and of the best one that was ever live. */
  readonly heldOut: number;
  readonly best: number;
}

export interface GatedTraining {
  readonly moments: readonly Moment[];
  readonly decisions: readonly (GateDecision & { readonly batch: number })[];
}

/** 1 for each event that is predicted wrong: the loss whose mean is one less the accuracy. */
export const wrong: GateOptions['loss'] = ({ logit }, labels) =>
  Array.from(logit!.data as Float32Array, (z, i) => (z > 0 === (Number(labels[i]) === 1) ? 0 : 1));

interface Batch {
  readonly x: Float32Array;
  readonly y: Float32Array;
}

/**
 * Learns SEA while predicting it, each event before its label is known; for a while the trainer gets every label flipped, as when
 * a producer breaks. Whoever scores gets them as they are.
 */
export async function gatedTraining(options: GatedTrainingOptions): Promise<GatedTraining> {
  const { batches, batchSize, concepts, delay, seed, flipped } = options;
  const session = await HotSwapSession.load(model);
  const { params } = session;
  const perceptron = mlpGradients(mlpPlan(readModel(model)), { loss: 'bceWithLogits', params });
  const stream = batchesOf(batchSize, batches, seed, concepts);
  const heldOut = [...batchesOf(10_000, 1, seed + 1000, 1)][0]!;

  const gradients$ = new Subject<TrainingEvent>();
  const labelled$ = new Subject<LabelledExamples>();
  const decisions: (GateDecision & { batch: number })[] = [];
  let scoring = 0;
  let now = 0;
  const scored = {
    model: session.model,
    params,
    async predict(feeds: LabelledExamples['feeds'], wanted: { version: number }) {
      scoring += 1;
      try {
        return await session.predict(feeds, wanted);
      } finally {
        scoring -= 1;
      }
    },
  };
  const updates$ = gradients$.pipe(clipByGlobalNorm(1), momentum(params, { lr: 0.02, momentum: 0.9 }));
  const decided = { next: (decision: GateDecision) => void decisions.push({ ...decision, batch: now }) };
  const gated$ = options.gate
    ? updates$.pipe(gate({ session: scored, labelled: labelled$, loss: wrong, maxLoss: 1, decisions: decided, ...options.gate }))
    : updates$;
  let failure: unknown;
  gated$.pipe(hotSwap(session)).subscribe({
    error: (error) => {
      failure = error;
    },
  });

  const accuracies = new Map<number, number>();
  const moments: Moment[] = [];
  const waiting: Batch[] = [];
  for (const batch of stream) {
    const live = params.liveVersion;
    if (!accuracies.has(live)) accuracies.set(live, await accuracy(session, heldOut));
    const best = Math.max(...accuracies.values());
    moments.push({ batch: now, live, served: await accuracy(session, batch), heldOut: accuracies.get(live)!, best });
    waiting.push(batch);
    if (waiting.length > delay) {
      const { x, y } = waiting.shift()!;
      const at = now - delay;
      labelled$.next({ feeds: feedsOf({ x, y }), labels: y });
      const bad = at >= flipped[0] && at < flipped[1];
      const run = perceptron.run({ x: { data: x, dims: [y.length, 3] } }, bad ? y.map((label) => 1 - label) : y);
      const tensors = Object.entries(run.gradients).map(([name, data]) => [name, { dims: params.get(name).dims, data }]);
      gradients$.next(gradientBatch({ gradients: Object.fromEntries(tensors) }));
    }
    do await eventLoopTurn();
    while (scoring > 0);
    if (failure !== undefined) throw failure;
    now += 1;
  }
  gradients$.complete();
  await session.dispose();
  return { moments, decisions };
}

function* batchesOf(size: number, batches: number, seed: number, concepts: number): Generator<Batch> {
  const events = seaAbruptDrift({ eventsPerConcept: Math.ceil((size * batches) / concepts), seed });
  for (let batch = 0; batch < batches; batch++) {
    const x = new Float32Array(3 * size);
    const y = new Float32Array(size);
    for (let i = 0; i < size; i++) {
      const event = events.next().value!;
      x.set(
        event.x.map((value) => value / 5 - 1),
        3 * i,
      );
      y[i] = event.y;
    }
    yield { x, y };
  }
}

function feedsOf({ x, y }: Batch) {
  return { x: new Tensor('float32', x, [y.length, 3]) };
}

async function accuracy(session: HotSwapSession, batch: Batch): Promise<number> {
  const { outputs } = await session.predict(feedsOf(batch));
  const logits = outputs.logit!.data as Float32Array;
  return batch.y.filter((label, i) => logits[i]! > 0 === (label === 1)).length / batch.y.length;
}
