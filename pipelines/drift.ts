import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Tensor } from 'onnxruntime-node';
import { Meter, percentiles } from '../src/cli/meter.ts';
import type { Pipeline, PipelineContext } from '../src/cli/pipeline.ts';
import type { Reporter } from '../src/cli/reporter.ts';
import {
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  fromTransport,
  HotSwapSession,
  hotSwap,
  momentum,
} from '../src/index.ts';
import { type Example, encodeExamples } from './drift/examples.ts';
import { startGradientWorker } from './drift/gradient-thread.ts';
import { Prequential } from './drift/prequential.ts';
import { VersionClock } from './drift/version-clock.ts';
import { type SeaEvent, seaAbruptDrift, thresholds } from './streams/sea.ts';

const model = fileURLToPath(new URL('./drift/mlp.onnx', import.meta.url));
const batchesPerEpoch = 16;

/** A steep start, then a rate that stays: one that went on falling would miss the later drifts. */
const rate = (epochs: number): number => (epochs < 1 ? 0.3 : 0.015);

/**
 * The main job. A labelled stream whose concept changes abruptly three times is predicted event by event, and learnt from
 * afterwards: examples go to one topic, a gradient worker on another thread answers with gradients on a second topic, and
 * they come back as weights of the session that predicts.
 */
export const pipeline: Pipeline = {
  summary: 'Learns a stream with concept drift (SEA) while it predicts it, and shows how well',
  options: [
    { flags: '--events <n>', summary: 'events of each of the four concepts', default: 12_500, number: 'whole' },
    { flags: '--batch <n>', summary: 'events of a gradient batch', default: 32, number: 'whole' },
    {
      flags: '--lead <n>',
      summary: 'batches that predictions may run ahead of learning; 0 gives the same figures every time',
      default: 0,
      number: 'whole',
    },
    { flags: '--noise <share>', summary: 'share of labels that are wrong', default: 0.1, number: 'any' },
    { flags: '--seed <n>', summary: 'seed of the stream', default: 42, number: 'whole' },
  ],
  run,
};

async function run({ transport, settings, options, report, signal }: PipelineContext): Promise<void> {
  const { events, batch: batchSize, lead, noise, seed } = options as Record<string, number>;
  const id = randomUUID().slice(0, 8);
  const topics = { examples: `drift-${id}-examples`, gradients: `drift-${id}-gradients` };
  await Promise.all(Object.values(topics).map((topic) => transport.createTopic(topic)));

  const session = await HotSwapSession.load(model);
  const { params } = session;
  const meter = new Meter();
  const clock = new VersionClock();
  const learning = fromTransport(transport, { topic: topics.gradients, from: 'beginning' })
    .pipe(
      clipByGlobalNorm(1),
      clipByValue(0.5),
      addDecayedWeights(1e-5),
      momentum(params, { lr: rate, momentum: 0.9, rejections: { next: ({ error }) => clock.error(error) } }),
      hotSwap(session),
    )
    .subscribe(clock);
  const worker = await startGradientWorker({
    settings,
    model,
    weights: params.share(),
    ...topics,
    batchSize: batchSize!,
    batchesPerEpoch,
  });

  const score = new Prequential();
  report.progress(() => progressLine(score, meter));
  try {
    const stream = seaAbruptDrift({ eventsPerConcept: events!, noise: noise!, seed: seed! });
    const interrupted = once(signal, 'abort');
    let published = 0;
    for (const examples of inBatches(stream, batchSize!)) {
      if (signal.aborted) break;
      for (const example of examples) {
        const concept = Math.floor(score.events / events!);
        score.add(concept, (await predict(session, example)) === example.y);
      }
      // The gradient worker would wait for the rest of a batch that the stream's end has cut short.
      if (examples.length < batchSize!) break;
      await transport.produce(topics.examples, encodeExamples(examples));
      published += 1;
      await Promise.race([clock.reaches(published - lead!), worker.failed, interrupted]);
    }
  } finally {
    await worker.stop();
    learning.unsubscribe();
    meter.close();
    await session.dispose();
  }
  report.close();
  summarise(report, score, meter);
}

async function predict(session: HotSwapSession, { x }: Example): Promise<0 | 1> {
  const { outputs } = await session.predict({ x: new Tensor('float32', x, [1, x.length]) });
  return Number(outputs.logit!.data[0]) > 0 ? 1 : 0;
}

/** Cuts a stream into batches of examples with features from −1 to 1. */
function* inBatches(stream: Iterable<SeaEvent>, size: number): Generator<Example[]> {
  let batch: Example[] = [];
  for (const { x, y } of stream) {
    batch.push({ x: x.map((value) => value / 5 - 1), y });
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

function progressLine(score: Prequential, { figures, stepsPerSecond, rejected }: Meter): string {
  const accuracy = score.events === 0 ? '–' : percent(score.accuracy);
  const norm = figures.gradientNorm?.toFixed(3) ?? '–';
  return (
    `${score.events} events  accuracy ${accuracy}  version ${figures.version ?? 0}  ${stepsPerSecond.toFixed(0)} steps/s  ` +
    `lr ${figures.lr ?? '–'}  gradient norm ${norm}  rejected ${rejected}`
  );
}

function summarise(report: Reporter, score: Prequential, meter: Meter): void {
  const { figures, stepsPerSecond, staleness, seconds } = meter;
  report.table(
    ['concept', 'events', 'accuracy', 'first 500 events'],
    [
      ...score.concepts.map(({ events, correct, firstEvents, firstCorrect }, i) => [
        `x₀ + x₁ > ${thresholds[i]}${i === 0 ? '' : ' (drift)'}`,
        String(events),
        percent(correct / events),
        percent(firstCorrect / firstEvents),
      ]),
      ['all', String(score.events), percent(score.accuracy), ''],
    ],
  );
  report.table(
    ['figure', 'value'],
    [
      ['steps', `${meter.step.count} in ${seconds.toFixed(1)} s`],
      ['steps/s', stepsPerSecond.toFixed(0)],
      ['step time, p50 / p99', percentiles(meter.step)],
      ['swap time, p50 / p99', percentiles(meter.swap)],
      ['inference time, p50 / p99', percentiles(meter.prediction)],
      ['staleness in versions, mean / max', `${staleness.mean.toFixed(2)} / ${staleness.max}`],
      ['batches clipped', percent(figures.clippedShare ?? 0)],
      ['epochs', String(figures.epochs)],
      ['events rejected', String(meter.rejected)],
    ],
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
