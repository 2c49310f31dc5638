import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { newestWhole, openVersion } from '../checkpoints/opened-checkpoint.ts';
import { RxgradError } from '../errors.ts';
import { dimsOf } from '../inference/onnx/initializer-values.ts';
import { type Model, readModel } from '../inference/onnx/model.ts';
import { trainableInitializers } from '../inference/onnx/trainable-initializers.ts';
import { withInitializers } from '../inference/onnx/with-initializers.ts';
import { expectOption } from '../options.ts';
import { layOut } from '../params/layout.ts';
import { planStateDict, readStateDict, shapeOfStateDict } from '../params/state-dict.ts';
import { readTensorFileHeader, writeTensorFile } from '../params/tensor-file.ts';
import type { ParameterPlace } from '../params/weights-reader.ts';
import { requiredStoreOf, storeOptions } from './checkpoint-store.ts';
import { addConnectionOptions, openConnection } from './connection.ts';
import { addOptions, parseNumber } from './options.ts';
import type { PipelineOptions } from './pipeline.ts';
import { createReporter } from './reporter.ts';
import { assertFree, writeWhole } from './write-whole.ts';

type ExportOptions = PipelineOptions & {
  readonly version?: number | 'newest';
  readonly state?: string;
  readonly out: string;
  readonly force?: boolean;
};

/** Makes the command `export`. */
export function exportCommand(): Command {
  const command = new Command('export')
    .summary('write a model with the weights of a version')
    .description(
      'Writes an ordinary ONNX file with the weights of a version as its initializers, all else as it came, or a safetensors\n' +
        'file of these weights.',
    )
    .argument('<model>', 'the ONNX model that was trained');
  addOptions(addConnectionOptions(command), storeOptions)
    .option('--version <version>', 'a version that there is a checkpoint of, or newest (default: newest)', parseVersion)
    .option('--state <file>', 'state dict to take the weights from, in the place of checkpoints')
    .requiredOption('--out <file>', 'file to write: .onnx or .safetensors')
    .option('--force', 'replace the file, if there is one');
  return command.action((model: string) => run(command, model));
}

async function run(command: Command, path: string): Promise<void> {
  const options = command.opts<ExportOptions>();
  assertConsistent(options);
  await assertFree(options.out, '--out', options.force === true);
  const model = readModel(path);
  const file = options.state === undefined ? await fileOfStore(command, options) : await readState(options.state);
  const places = placesIn(model, file);
  const { weights, version } = readStateDict(places, file, { strict: true, exact: false });
  assertVersion(options, version);
  const bytes =
    extname(options.out) === '.onnx'
      ? withInitializers(model, weights, { alone: true })
      : writeTensorFile(planStateDict(places, weights, version ?? 0, null, {}));
  await writeWhole(options.out, bytes, '--out');
  const report = createReporter(process.stdout);
  report.line(`${version === null ? 'weights' : `version ${version}`} saved to ${options.out}`);
  report.close();
}

function assertConsistent({ out, state, checkpoints, checkpointTopic }: ExportOptions): void {
  expectOption(['.onnx', '.safetensors'].includes(extname(out)), '--out', 'a file that ends in .onnx or .safetensors', out);
  const both = state !== undefined && (checkpoints !== undefined || checkpointTopic !== undefined);
  expectOption(!both, '--state', 'no --checkpoints nor --checkpoint-topic with it', 'both');
}

async function fileOfStore(command: Command, options: ExportOptions): Promise<Uint8Array> {
  const { transport, close } = await openConnection(command, { temporary: true });
  try {
    const store = requiredStoreOf(options, transport);
    const { version = 'newest' } = options;
    const found = version === 'newest' ? await newestWhole(store) : await openVersion(store, version);
    if (found) return found.file;
    throw new RxgradError('unknownVersion', { store: store.name, expected: 'none', got: version });
  } finally {
    await close();
  }
}

async function readState(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const got = (cause as Error).message;
    throw new RxgradError('invalidOption', { option: '--state', expected: 'a file that can be read', got }, { cause });
  }
}

/** What the file holds weights of, with the dims of the model: where the two differ, reading it says so. */
function placesIn(model: Model, file: Uint8Array): readonly ParameterPlace[] {
  const names = new Set(isOwn(file) ? Object.keys(shapeOfStateDict(file).specs) : namesOf(trainableInitializers(model)));
  const tensors = model.graph.initializer.filter(({ name }) => names.has(name));
  return layOut(Object.fromEntries(tensors.map((tensor) => [tensor.name, { dims: dimsOf(model, tensor) }]))).places;
}

function namesOf(weights: readonly { readonly name: string }[]): string[] {
  return weights.map(({ name }) => name);
}

/** Whether a file names its weights itself; those of torch do not. */
function isOwn(file: Uint8Array): boolean {
  const { metadata } = readTensorFileHeader(file, (expected, got) => {
    throw new RxgradError('invalidCheckpoint', { where: 'state dict', expected, got });
  });
  return metadata['rxgrad.weights'] !== undefined;
}

/** Of a state dict, whose version need not be told. */
function assertVersion({ version: asked = 'newest', state }: ExportOptions, version: number | null): void {
  if (state === undefined || asked === 'newest' || asked === version) return;
  throw new RxgradError('unknownVersion', { store: state, expected: version ?? 'it does not say which', got: asked });
}

function parseVersion(text: string): number | 'newest' {
  if (text === 'newest') return text;
  const version = parseNumber(text, 'whole');
  if (version >= 0) return version;
  throw new InvalidArgumentError('Expected a version, or newest.');
}
