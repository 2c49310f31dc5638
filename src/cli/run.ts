import { access } from 'node:fs/promises';
import { extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command } from 'commander';
import { RxgradError } from '../errors.ts';
import { addConnectionOptions, type ConnectionOptions, openConnection } from './connection.ts';
import { addOptions } from './options.ts';
import type { Pipeline, PipelineOptions } from './pipeline.ts';
import { createReporter } from './reporter.ts';

const builtIn = ['drift', 'momentum'] as const;

/**
 * Makes the command `run`. A pipeline has options of its own, so the module that the arguments name is loaded first, and
 * becomes a subcommand with its own help.
 */
export async function runCommand(args: readonly string[]): Promise<Command> {
  const run = new Command('run')
    .summary('run a pipeline')
    .description(
      'Runs a pipeline: one that comes with rxgrad, or a module of yours that exports `pipeline`.\n' +
        'Each has options of its own: rxgrad run PIPELINE --help shows them.',
    )
    .argument('<pipeline>', `${builtIn.join(', ')}, or the path of a module`);
  const [command, name] = args;
  if (command !== 'run' || name === undefined || name.startsWith('-')) {
    for (const pipeline of builtIn) run.addCommand(await pipelineCommand(pipeline), { hidden: false });
    return run.usage('PIPELINE [options]');
  }
  return run.addCommand(await pipelineCommand(name));
}

async function pipelineCommand(name: string): Promise<Command> {
  const pipeline = await loadPipeline(name);
  const command = new Command(name).summary(pipeline.summary).description(pipeline.summary);
  addConnectionOptions(command, { temporary: true });
  addOptions(command, pipeline.options ?? []);
  return command.action(() => execute(pipeline, command));
}

async function execute(pipeline: Pipeline, command: Command): Promise<void> {
  const { brokers: _, kafkaConfig: __, log: ___, ...options } = command.opts<PipelineOptions & ConnectionOptions>();
  const report = createReporter(process.stdout);
  const ending = new AbortController();
  const end = () => ending.abort();
  process.once('SIGINT', end).once('SIGTERM', end);
  try {
    const { transport, settings, close } = await openConnection(command, { temporary: true });
    try {
      await pipeline.run({ transport, settings, options, report, signal: ending.signal });
    } finally {
      report.close();
      await close();
    }
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end);
  }
}

async function loadPipeline(name: string): Promise<Pipeline> {
  const file = await fileOf(name);
  const { pipeline } = (await import(pathToFileURL(file).href)) as { pipeline?: Pipeline };
  if (typeof pipeline?.run === 'function') return pipeline;
  throw new RxgradError('unknownPipeline', { expected: 'one that exports `pipeline`', got: name });
}

async function fileOf(name: string): Promise<string> {
  const own = extname(import.meta.url);
  if ((builtIn as readonly string[]).includes(name)) {
    return new URL(`../../pipelines/${name}${own}`, import.meta.url).pathname;
  }
  const file = resolve(name);
  try {
    await access(file);
    return file;
  } catch (cause) {
    throw new RxgradError('unknownPipeline', { expected: builtIn.join(', '), got: name }, { cause });
  }
}
