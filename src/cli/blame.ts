import { Command } from 'commander';
import { lastValueFrom } from 'rxjs';
import { type Blamed, blame } from '../checkpoints/blame.ts';
import { RxgradError } from '../errors.ts';
import { GradientBatch } from '../events.ts';
import { fromTransport } from '../sources/from-transport.ts';
import type { Transport } from '../sources/transport.ts';
import { requiredStoreOf, storeOptions } from './checkpoint-store.ts';
import { addConnectionOptions, openConnection } from './connection.ts';
import { metricNames, metricOf } from './held-out.ts';
import { addOptions } from './options.ts';
import type { PipelineOption, PipelineOptions } from './pipeline.ts';
import { scanOf } from './replay.ts';
import { createReporter } from './reporter.ts';

const ownOptions: readonly PipelineOption[] = [
  { flags: '--topic <name>', summary: 'topic of the gradients', required: true },
  { flags: '--metric <name>', summary: `${metricNames.join(', ')}, or a module that exports metric(params)`, required: true },
  { flags: '--model <file>', summary: 'ONNX model that is measured' },
  { flags: '--examples <file>', summary: "safetensors with the model's inputs by name, and `labels`" },
  { flags: '--good <version>', summary: 'a version that was good (default: the oldest checkpoint)', number: 'whole' },
  { flags: '--bad <version>', summary: 'a later one that was not (default: the newest checkpoint)', number: 'whole' },
  { flags: '--above <value>', summary: 'the metric is bad above this value', number: 'any' },
  { flags: '--below <value>', summary: 'the metric is bad below this value', number: 'any' },
  { flags: '--optimizer <file>', summary: 'the optimizer as JSON, where the checkpoints cannot say what it was' },
];

/** Makes the command `blame`. */
export function blameCommand(): Command {
  const command = new Command('blame')
    .summary('find the record with which a metric went bad')
    .description(
      'Names the record from which on a metric is bad: measures checkpoints, then replays between two of them, by bisection.',
    );
  addOptions(addOptions(addConnectionOptions(command), storeOptions), ownOptions);
  return command.action(() => run(command));
}

async function run(command: Command): Promise<void> {
  const options = command.opts<PipelineOptions & Limits & { good?: number; bad?: number }>();
  const metric = String(options.metric);
  const measure = await metricOf(metric, options.model as string | undefined, options.examples as string | undefined);
  const { transport, close } = await openConnection(command);
  const report = createReporter(process.stdout);
  try {
    const found = await blame({
      store: requiredStoreOf(options, transport),
      transport,
      topic: String(options.topic),
      measure,
      scan: await scanOf(options.optimizer),
      onMeasured: (version, value) => report.line(`version ${version}: ${metric} ${value}`),
      ...limitOf(options),
      ...(options.good === undefined ? {} : { good: options.good }),
      ...(options.bad === undefined ? {} : { bad: options.bad }),
    });
    report.line(await inWords(found, metric, transport));
  } finally {
    report.close();
    await close();
  }
}

interface Limits {
  readonly above?: number;
  readonly below?: number;
}

function limitOf({ above, below }: Limits): { isBad?: (value: number) => boolean } {
  if (above === undefined && below === undefined) return {};
  if (above !== undefined && below !== undefined) {
    throw new RxgradError('invalidOption', { option: '--above', expected: 'no --below with it', got: 'both' });
  }
  return { isBad: (value) => !(above === undefined ? value >= below! : value <= above) };
}

/** Says which record it was, and who sent it. */
async function inWords({ version, position, before, after }: Blamed, metric: string, transport: Transport): Promise<string> {
  const change = `${metric} went from ${before} to ${after} with version ${version}`;
  if (!position) return change;
  const { topic, partition, offset } = position;
  const from = new Map([[partition, offset]]);
  const until = { offsets: new Map([[partition, offset + 1]]) };
  const event = await lastValueFrom(fromTransport(transport, { topic, from, until }), { defaultValue: null });
  const { worker, sequence } = event instanceof GradientBatch ? event.facts : {};
  return `${change}, made by ${topic}/${partition}@${offset} (worker ${worker ?? 'unknown'}, sequence ${sequence ?? 'unknown'})`;
}
