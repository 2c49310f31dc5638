import { Command } from 'commander';
import { movedTo } from '../checkpoints/checkpoint-file.ts';
import type { CheckpointEntry, CheckpointStore } from '../checkpoints/checkpoint-store.ts';
import { openVersion } from '../checkpoints/opened-checkpoint.ts';
import { placeOfOffsets } from '../checkpoints/place-in-log.ts';
import { isRxgradError, RxgradError } from '../errors.ts';
import { lastSeen } from '../once.ts';
import { shapeOfStateDict } from '../params/state-dict.ts';
import type { Transport } from '../sources/transport.ts';
import { requiredStoreOf, storeOptions } from './checkpoint-store.ts';
import { addConnectionOptions, openConnection } from './connection.ts';
import { addOptions, parseNumber } from './options.ts';
import type { PipelineOptions } from './pipeline.ts';
import { createReporter, type Reporter } from './reporter.ts';

interface Context {
  readonly store: CheckpointStore;
  readonly transport: Transport;
  readonly report: Reporter;
  readonly options: PipelineOptions;
}

const version = (text: string): number => parseNumber(text, 'whole');

/** Makes the command `checkpoint`. */
export function checkpointCommand(): Command {
  return new Command('checkpoint')
    .summary('list, show, verify, pin and roll back checkpoints')
    .description('Looks after the checkpoints of a model: in a folder, or in a compacted topic.')
    .addCommand(command('list', 'list the checkpoints, newest first', list))
    .addCommand(command('show', 'show what a checkpoint holds', show).argument('<version>', 'its version', version))
    .addCommand(command('verify', 'read every checkpoint and check that it is whole', verify))
    .addCommand(command('pin', 'keep a checkpoint, however many come after it', pin(true)).argument('<version>', '', version))
    .addCommand(command('unpin', 'let a pinned checkpoint go', pin(false)).argument('<version>', 'its version', version))
    .addCommand(
      command('rollback', 'set all checkpoints after a version aside, so that training goes on from it', rollback)
        .argument('<version>', 'the version to go on from', version)
        .option('--topic <name>', 'topic of the gradients, with --skip-to')
        .option(
          '--skip-to <offset...>',
          'go on at PARTITION:OFFSET (or PARTITION:end) of that topic and leave out what comes before; without it, the log is read again from where the version ended',
        ),
    );
}

function command(name: string, summary: string, action: (context: Context, version: number) => Promise<void>): Command {
  const made = new Command(name).summary(summary).description(`${summary[0]!.toUpperCase()}${summary.slice(1)}.`);
  addOptions(addConnectionOptions(made), storeOptions);
  return made.action(async (...args: unknown[]) => {
    const options = made.opts<PipelineOptions>();
    const { transport, close } = await openConnection(made, { temporary: true });
    const report = createReporter(process.stdout);
    try {
      const store = requiredStoreOf(options, transport);
      await action({ store, transport, report, options }, typeof args[0] === 'number' ? args[0] : -1);
    } finally {
      report.close();
      await close();
    }
  });
}

async function list({ store, report }: Context): Promise<void> {
  const entries = await store.list();
  if (entries.length === 0) report.line(`${store.name}: none`);
  else listOf(entries, report);
  for (const course of await store.abandoned()) {
    report.line(`set aside, as ${course.name}:`);
    listOf(course.entries, report);
  }
}

function listOf(entries: readonly CheckpointEntry[], report: Reporter): void {
  report.table(
    ['version', 'bytes', 'saved', 'pinned'],
    entries.map(({ version, bytes, savedAtMs, pinned }) => [
      String(version),
      String(bytes),
      new Date(savedAtMs).toISOString(),
      pinned ? 'yes' : '',
    ]),
  );
}

async function show({ store, report }: Context, version: number): Promise<void> {
  const { file, facts } = await openVersion(store, version);
  const { recipe, stages, positions, seen, log } = facts;
  const newest = log?.newestMs;
  report.table(
    ['fact', 'value'],
    [
      ['version', String(facts.version)],
      ['steps', String(facts.steps)],
      ['epochs', String(facts.epochs)],
      ['optimizer', recipe ? `${recipe.optimizer}(${JSON.stringify(recipe.options)})` : 'none has run'],
      [
        'stages',
        stages ? stages.map(([name, given]) => `${name}(${JSON.stringify(given)})`).join(' → ') || 'none' : 'not known yet',
      ],
      ...positions.map(([topic, partition, next]) => [`next offset of ${topic}/${partition}`, String(next)]),
      ...(new Set(positions.map(([topic]) => topic)).size < positions.length
        ? [['order', 'as records of several partitions arrived: other bits each time']]
        : []),
      ...(log?.topics ?? []).map(([topic, id]) => [`id of ${topic}`, id]),
      ['youngest record', newest === undefined ? 'not known' : newest === null ? 'none' : new Date(newest).toISOString()],
      ...(seen ? lastSeen(seen, 20) : []).map(({ worker, highest }) => [`highest sequence of ${worker}`, String(highest)]),
      ['checksum', facts.checksum],
    ],
  );
  const specs = Object.entries(shapeOfStateDict(file).specs).map(([name, { dims }]) => [name, `[${dims.join(', ')}]`]);
  report.table(['parameter', 'dims'], specs);
}

/** Reads all of them before it fails: who repairs wants to know of each. */
async function verify({ store, report }: Context): Promise<void> {
  const entries = await store.list();
  let broken = 0;
  let last = '';
  for (const { version } of entries) {
    try {
      const { facts } = await openVersion(store, version);
      report.line(`version ${version}: whole, ${facts.checksum}`);
    } catch (error) {
      if (!isRxgradError(error)) throw error;
      broken += 1;
      last = error.message;
      report.line(`version ${version}: ${error.message}`);
    }
  }
  report.line(`${entries.length - broken} of ${entries.length} are whole`);
  if (broken > 0) throw new RxgradError('brokenCheckpoints', { store: store.name, count: broken, last });
}

function pin(pinned: boolean): (context: Context, version: number) => Promise<void> {
  return async ({ store, report }, version) => {
    await openVersion(store, version);
    await store.pin(version, pinned);
    report.line(`version ${version} is ${pinned ? 'pinned' : 'pinned no more'}`);
  };
}

async function rollback({ store, transport, report, options }: Context, version: number): Promise<void> {
  // A trainer that still runs would bring back what is set aside.
  await store.takeOver?.();
  const { file, where, later } = await openVersion(store, version);
  const next = await skipped(options, transport);
  if (next) await store.write(version, movedTo(file, await placeOfOffsets(transport, String(options.topic), next), where));
  // From earlier ones, what is skipped here would be read again: no recovery or replay may begin there.
  const left = next ? (await store.list()).flatMap((entry) => (entry.version === version ? [] : [entry.version])) : later;
  const place = left.length > 0 ? `set aside as ${await store.setAside(left)}: ${left.join(', ')}` : 'there are no others';
  report.line(`training goes on from version ${version}; ${place}`);
  for (const [partition, offset] of next ?? []) report.line(`partition ${partition} goes on at offset ${offset}`);
}

async function skipped(options: PipelineOptions, transport: Transport): Promise<Map<number, number> | null> {
  const given = options.skipTo as unknown as readonly string[] | undefined;
  if (!given) return null;
  const expected = 'PARTITION:OFFSET or PARTITION:end';
  if (options.topic === undefined)
    throw new RxgradError('invalidOption', { option: '--topic', expected: 'it with --skip-to', got: 'none' });
  const ends = await transport.endOffsets(String(options.topic));
  return new Map(
    given.map((text) => {
      const [, partition, offset] = /^(\d+):(\d+|end)$/.exec(text) ?? [];
      const end = ends[Number(partition)];
      if (offset === undefined || end === undefined || Number(offset) > end) {
        throw new RxgradError('invalidOption', {
          option: '--skip-to',
          expected: `${expected} (ends: ${ends.join(', ')})`,
          got: text,
        });
      }
      return [Number(partition), offset === 'end' ? end : Number(offset)];
    }),
  );
}
