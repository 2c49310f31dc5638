import { identity, lastValueFrom, takeUntil } from 'rxjs';
import { storeOf, storeOptions } from '../src/cli/checkpoint-store.ts';
import { ended } from '../src/cli/ended.ts';
import { Meter, percentiles } from '../src/cli/meter.ts';
import { readOptimizer } from '../src/cli/optimizer-file.ts';
import type { Pipeline, PipelineContext, PipelineOptions } from '../src/cli/pipeline.ts';
import type { Reporter } from '../src/cli/reporter.ts';
import { save } from '../src/cli/save.ts';
import { RxgradError } from '../src/errors.ts';
import {
  type CheckpointOptions,
  type CheckpointStore,
  checkpoint,
  deadLetters,
  type FromTransportOptions,
  fromTransport,
  HotSwapSession,
  hotSwap,
  type OptimizerConfig,
  optimizer,
  type Parameters,
  type PublishWeightsOptions,
  placeOfState,
  publishWeights,
  type Recovered,
  type RecoverOptions,
  type Rejection,
  type RejectionSink,
  recover,
  type Transport,
} from '../src/index.ts';

const SHOWN_REJECTIONS = 10;

/** Gradients of a topic become weights of a model: the road from the log to a live session, with nothing made up. */
export const pipeline: Pipeline = {
  summary: 'Turns the gradients of a topic into weights of an ONNX model, with momentum or any other optimizer',
  options: [
    { flags: '--model <file>', summary: 'ONNX model, with its weights as initializers', required: true },
    { flags: '--topic <name>', summary: 'topic of the gradients', required: true },
    {
      flags: '--from <place>',
      summary: 'where to begin: beginning or end (default: behind what the state of --load-state contains, else beginning)',
      choices: ['beginning', 'end'],
    },
    {
      flags: '--partition <which>',
      summary: 'of a topic with several: the number of the one that is read, or any-order (default: the topic must have one)',
    },
    { flags: '--until-end', summary: 'end behind the last record there is now, instead of waiting for more' },
    { flags: '--lr <rate>', summary: 'learning rate (default: 0.1)', number: 'any' },
    {
      flags: '--step-size <epochs>',
      summary: 'epochs after which the rate is multiplied by gamma (default: never)',
      number: 'whole',
    },
    { flags: '--gamma <factor>', summary: 'factor of the rate (default: 0.1)', number: 'any' },
    { flags: '--momentum <share>', summary: 'share of the velocity that stays (default: 0.9)', number: 'any' },
    { flags: '--nesterov', summary: "take Nesterov's look-ahead" },
    { flags: '--clip-norm <norm>', summary: 'limit of the global norm (default: none)', number: 'any' },
    { flags: '--clip-value <limit>', summary: 'limit of each element (default: none)', number: 'any' },
    { flags: '--weight-decay <factor>', summary: 'L2 decay (default: 0)', number: 'any' },
    { flags: '--optimizer <file>', summary: 'any optimizer, as JSON, in the place of rate, momentum, clips and decay' },
    ...storeOptions,
    { flags: '--checkpoint-every <steps>', summary: 'versions between two checkpoints (default: none)', number: 'whole' },
    {
      flags: '--checkpoint-every-ms <ms>',
      summary: 'milliseconds between two checkpoints (default: 10000, without --checkpoint-every)',
      number: 'whole',
    },
    { flags: '--dead-letters <topic>', summary: 'topic that keeps what is rejected (rxgrad dead-letters shows it)' },
    { flags: '--publish-weights <topic>', summary: 'compacted topic that replicas follow (see weightsFrom)' },
    { flags: '--publish-model <name>', summary: 'what they know the model by (default: model)' },
    { flags: '--publish-take-over', summary: 'publish where the topic holds weights of another training under that name' },
    { flags: '--publish-every <steps>', summary: 'versions between two publications (default: 100)', number: 'whole' },
    { flags: '--load-state <file>', summary: 'state dict to go on from: safetensors, also of torch or braintools' },
    { flags: '--save-state <file>', summary: 'state dict to write at the end: weights and all that the optimizer keeps' },
    { flags: '--save <file>', summary: 'ONNX model to write at the end, with the weights it came to' },
  ],
  run,
};

async function run(context: PipelineContext): Promise<void> {
  const { transport, options, report, signal } = context;
  const model = String(options.model);
  const config = options.optimizer === undefined ? momentumConfig(options) : await readConfig(options);
  const session = await HotSwapSession.load(model);
  const meter = new Meter();
  report.progress(() => progressLine(meter, session.params.version));
  try {
    const store = storeOf(options, transport);
    if (store) refuseOtherBeginnings(options);
    if (options.loadState) session.params.loadStateDict(String(options.loadState));
    const topic = String(options.topic);
    const partitions = partitionsOf(options);
    const source = store
      ? await recovered(session.params, store, transport, { topic, partitions }, report)
      : await startOf(options, { transport, topic, partitions }, report);
    const updates$ = fromTransport(transport, { topic, ...source, ...(options.untilEnd ? { until: 'end' } : {}) }).pipe(
      // Before the scan: what has come is checkpointed as the run ends.
      takeUntil(ended(signal)),
      optimizer(session.params, config, { rejections: rejectionsOf(context) }),
      store ? checkpoint(store, { ...intervalOf(options), params: session.params }) : identity,
      hotSwap(session),
      options.publishWeights === undefined ? identity : publishWeights(transport, publicationOf(options)),
    );
    await lastValueFrom(updates$, { defaultValue: null });
    await session.params.whenRejectionsKept();
    report.close();
    summarise(report, meter, session.params.version);
    await save(session.params, options, report);
  } finally {
    meter.close();
    await session.dispose();
  }
}

/** Where to begin without checkpoints: as told, or behind what a loaded state contains. */
async function startOf(
  { from, loadState }: PipelineOptions,
  log: Pick<RecoverOptions, 'transport' | 'topic' | 'partitions'>,
  report: Reporter,
): Promise<Pick<FromTransportOptions, 'from' | 'partitions' | 'seen' | 'topicId'>> {
  const place = from === undefined && loadState !== undefined ? await placeOfState(String(loadState), log) : null;
  if (!place) return { from: from === 'end' ? 'end' : 'beginning', partitions: log.partitions };
  const offsets = [...place.from].map(([partition, next]) => `${log.topic}/${partition}@${next}`);
  report.line(`goes on at ${offsets.join(', ')}, behind what ${loadState} contains`);
  return place;
}

function partitionsOf({ partition }: PipelineOptions): RecoverOptions['partitions'] {
  if (partition === undefined || partition === 'any-order') return partition;
  if (/^\d+$/.test(String(partition))) return [Number(partition)];
  throw new RxgradError('invalidOption', { option: '--partition', expected: 'a number, or any-order', got: String(partition) });
}

function refuseOtherBeginnings(options: PipelineOptions): void {
  const refused = ['loadState', 'from'].find((name) => options[name] !== undefined && options[name] !== 'beginning');
  if (!refused) return;
  const expected = 'no other place to begin from with it';
  throw new RxgradError('invalidOption', { option: '--checkpoints', expected, got: `${refused} ${options[refused]}` });
}

/** Goes on from the newest checkpoint, and says so. */
async function recovered(
  params: Parameters,
  store: CheckpointStore,
  transport: Transport,
  { topic, partitions }: Pick<RecoverOptions, 'topic' | 'partitions'>,
  report: Reporter,
): Promise<Recovered['source']> {
  const { version, source } = await recover(params, store, { transport, topic, partitions });
  report.line(`goes on from version ${version} of ${store.name}`);
  return source;
}

function publicationOf({
  publishWeights,
  publishModel = 'model',
  publishEvery = 100,
  publishTakeOver,
}: PipelineOptions): PublishWeightsOptions {
  return {
    topic: String(publishWeights),
    model: String(publishModel),
    everySteps: Number(publishEvery),
    takeOver: publishTakeOver === true,
  };
}

function intervalOf({ checkpointEvery, checkpointEveryMs }: PipelineOptions): CheckpointOptions {
  const everyMs = checkpointEveryMs ?? (checkpointEvery === undefined ? 10_000 : undefined);
  return {
    ...(checkpointEvery === undefined ? {} : { everySteps: Number(checkpointEvery) }),
    ...(everyMs === undefined ? {} : { everyMs: Number(everyMs) }),
  };
}

const momentumOptions = ['lr', 'stepSize', 'gamma', 'momentum', 'nesterov', 'clipNorm', 'clipValue', 'weightDecay'];

async function readConfig(options: PipelineOptions): Promise<OptimizerConfig> {
  const other = momentumOptions.find((name) => options[name] !== undefined);
  if (other) {
    const expected = 'no other option on the optimizer with it';
    throw new RxgradError('invalidOption', { option: '--optimizer', expected, got: `${other} ${options[other]}` });
  }
  return readOptimizer(String(options.optimizer));
}

function momentumConfig(options: PipelineOptions): OptimizerConfig {
  const given = options as Record<string, number | undefined>;
  const { lr = 0.1, stepSize, gamma = 0.1, momentum = 0.9, clipNorm, clipValue, weightDecay = 0 } = given;
  return {
    type: options.nesterov ? 'MomentumNesterov' : 'Momentum',
    lr: stepSize === undefined ? lr : { type: 'StepLR', baseLr: lr, stepSize, gamma },
    momentum,
    weightDecay,
    ...(clipNorm === undefined ? {} : { gradClipNorm: clipNorm }),
    ...(clipValue === undefined ? {} : { gradClipValue: clipValue }),
  };
}

/** Shows rejections, and keeps them where that is asked for. */
function rejectionsOf({ transport, options, report }: PipelineContext): RejectionSink {
  const show = rejectionLines(report);
  if (!options.deadLetters) return { next: show };
  const { next, flushed } = deadLetters(transport, { topic: String(options.deadLetters) });
  const both = (rejected: Rejection): unknown => {
    show(rejected);
    return next(rejected);
  };
  return { next: both, flushed };
}

/** Shows the first few rejections in full: one bad producer would fill the screen. */
function rejectionLines(report: Reporter): (rejection: Rejection) => void {
  let shown = 0;
  return ({ error }) => {
    shown += 1;
    if (shown <= SHOWN_REJECTIONS) report.line(`rejected: ${error.message} (${error.code})`);
    if (shown === SHOWN_REJECTIONS) report.line('more rejections are counted, not shown');
  };
}

function progressLine({ figures, stepsPerSecond, rejected }: Meter, version: number): string {
  const norm = figures.gradientNorm?.toPrecision(4) ?? '–';
  return `version ${version}  ${stepsPerSecond.toFixed(0)} steps/s  lr ${figures.lr ?? '–'}  gradient norm ${norm}  rejected ${rejected}`;
}

function summarise(report: Reporter, meter: Meter, version: number): void {
  const { figures, stepsPerSecond, staleness, seconds } = meter;
  const rejections = Object.entries(figures.rejections).map(([reason, count]) => `${reason} ${count}`);
  report.table(
    ['figure', 'value'],
    [
      ['steps', `${meter.step.count} in ${seconds.toFixed(1)} s`],
      ['steps/s', stepsPerSecond.toFixed(0)],
      ['version', String(version)],
      ['step time, p50 / p99', percentiles(meter.step)],
      ['swap time, p50 / p99', percentiles(meter.swap)],
      [
        'staleness in versions, mean / max',
        Number.isNaN(staleness.mean) ? '–' : `${staleness.mean.toFixed(2)} / ${staleness.max}`,
      ],
      ['batches clipped', `${(100 * (figures.clippedShare ?? 0)).toFixed(2)} %`],
      ['epochs', String(figures.epochs)],
      ['events rejected', rejections.length === 0 ? '0' : rejections.join(', ')],
    ],
  );
}
