import { Command, InvalidArgumentError } from 'commander';
import { type Moment, momentInWords, replay, type ScanOver } from '../checkpoints/replay.ts';
import { RxgradError } from '../errors.ts';
import { optimizer } from '../optimizers/optimizer.ts';
import { requiredStoreOf, storeOptions } from './checkpoint-store.ts';
import { addConnectionOptions, openConnection } from './connection.ts';
import { readOptimizer } from './optimizer-file.ts';
import { addOptions } from './options.ts';
import type { PipelineOptions } from './pipeline.ts';
import { createReporter } from './reporter.ts';
import { save } from './save.ts';

/** Makes the command `replay`. */
export function replayCommand(): Command {
  const command = new Command('replay')
    .summary('rebuild the weights of any moment')
    .description('Rebuilds the weights of any moment, from the newest checkpoint before it and the log behind that.');
  addOptions(addConnectionOptions(command), storeOptions)
    .requiredOption('--topic <name>', 'topic of the gradients')
    .requiredOption(
      '--to <moment>',
      'a version (1200), offset:N or offset:PARTITION:N, or a time (2026-01-31T12:00:00Z)',
      parseMoment,
    )
    .option('--optimizer <file>', 'the optimizer as JSON, where the checkpoint cannot say what it was')
    .option('--save-state <file>', 'state dict to write: weights and all that the optimizer keeps')
    .option('--model <file>', 'ONNX model, for --save')
    .option('--save <file>', 'the model to write, with those weights');
  return command.action(() => run(command));
}

async function run(command: Command): Promise<void> {
  const options = command.opts<PipelineOptions & { to: Moment }>();
  if (options.save !== undefined && options.model === undefined) {
    throw new RxgradError('invalidOption', { option: '--save', expected: '--model with it', got: 'none' });
  }
  const { transport, close } = await openConnection(command);
  const report = createReporter(process.stdout);
  try {
    const store = requiredStoreOf(options, transport);
    const scan = await scanOf(options.optimizer);
    const params = await replay({ store, transport, topic: String(options.topic), to: options.to, scan });
    report.line(`${momentInWords(options.to)}: version ${params.version}`);
    await save(params, options, report);
  } finally {
    report.close();
    await close();
  }
}

/** The scan that a file describes; undefined without a file. */
export async function scanOf(file: PipelineOptions[string]): Promise<ScanOver | undefined> {
  if (file === undefined) return undefined;
  const config = await readOptimizer(String(file));
  return (params) => optimizer(params, config);
}

function parseMoment(text: string): Moment {
  if (/^\d+$/.test(text)) return { version: Number(text) };
  const [, partition, offset] = /^offset:(?:(\d+):)?(\d+)$/.exec(text) ?? [];
  if (offset !== undefined) return { offset: Number(offset), partition: Number(partition ?? 0) };
  const timeMs = Date.parse(text);
  if (!Number.isNaN(timeMs)) return { timeMs };
  throw new InvalidArgumentError('Expected a version, offset:N, offset:PARTITION:N, or a time of ISO 8601.');
}
