import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { InferenceSession } from 'onnxruntime-node';
import {
  checkpoint,
  embeddedLog,
  FileCheckpoints,
  gradientBatch,
  HotSwapSession,
  KafkaCheckpoints,
  momentum,
  Parameters,
} from 'rxgrad';
import { from, lastValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readModel } from '../../src/inference/onnx/model.ts';
import { trainableInitializers } from '../../src/inference/onnx/trainable-initializers.ts';
import { planTensorFile, readTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import { buildModel, external, floats, node, otherFloats, value } from '../inference/onnx/build-model.ts';
import { example, feedsOf } from '../inference/onnx/example-models.ts';
import { expectFailure, rxgrad } from '../pipelines/rxgrad.ts';
import { wave } from '../stages/gradients.ts';

const mlp = example('mlp');
/** What the session predicted with, by version. */
const predicted = new Map<number, number[]>();
let folder = '';
let store: string[] = [];

/** Checkpoints of versions 0 to 4 in a folder and in a topic; the last one's state dict. */
beforeAll(async () => {
  folder = mkdtempSync(`${tmpdir()}/rxgrad-export-`);
  store = ['--checkpoints', `${folder}/checkpoints`];
  const session = await HotSwapSession.load(mlp.path);
  const { params } = session;
  const log = embeddedLog(`${folder}/log.db`, { synchronous: 'normal' });
  const stores = [new FileCheckpoints(`${folder}/checkpoints`), new KafkaCheckpoints(log, { topic: 'kept' })];
  for (let version = 1; version <= 4; version++) {
    const gradients = Object.fromEntries([...params].map(({ name, length }) => [name, wave(length, version)]));
    const steps = from([gradientBatch({ gradients })]).pipe(momentum(params, { lr: 0.1 }));
    await lastValueFrom(stores.reduce((stream, kept) => stream.pipe(checkpoint(kept, { everySteps: 1 })), steps));
    session.swap();
    const { outputs } = await session.predict(feedsOf(mlp));
    predicted.set(version, [...(outputs.output!.data as Float32Array)]);
  }
  writeFileSync(`${folder}/state.safetensors`, params.stateDict());
  for (const kept of stores) await kept.close();
  await log.close();
  await session.dispose();
});
afterAll(() => rmSync(folder, { recursive: true }));

async function predictionOf(path: string): Promise<number[]> {
  const session = await InferenceSession.create(path);
  const outputs = await session.run(feedsOf(mlp));
  await session.release();
  return [...(outputs.output!.data as Float32Array)];
}

describe('writes', () => {
  it.each(['2', '4', 'newest'])('the model with the weights of version %s', async (version) => {
    const out = `${folder}/version-${version}.onnx`;
    const number = version === 'newest' ? 4 : Number(version);
    expect(rxgrad('export', mlp.path, '--version', version, ...store, '--out', out)).toContain(
      `version ${number} saved to ${out}`,
    );
    expect(await predictionOf(out)).toEqual(predicted.get(number));
  });

  it('all other bytes as they came', () => {
    const out = `${folder}/bytes.onnx`;
    rxgrad('export', mlp.path, ...store, '--out', out);
    const [before, after] = [readFileSync(mlp.path), readFileSync(out)];
    expect(after).toHaveLength(before.length);
    const model = readModel(before);
    const weights = new Set(trainableInitializers(model).map(({ name }) => name));
    const places = model.graph.initializer
      .filter(({ name }) => weights.has(name))
      .map(({ rawData }) => [rawData.byteOffset - before.byteOffset, rawData.byteLength] as const);
    expect(places).toHaveLength(4);
    const changed = [...before.keys()].filter((at) => before[at] !== after[at]);
    expect(changed.length).toBeGreaterThan(100);
    expect(changed.filter((at) => !places.some(([begin, length]) => at >= begin && at < begin + length))).toEqual([]);
  });

  it('from checkpoints in a topic the same', () => {
    const args = ['--log', `${folder}/log.db`, '--checkpoint-topic', 'kept'];
    rxgrad('export', mlp.path, '--version', '3', ...args, '--out', `${folder}/of-topic.onnx`);
    rxgrad('export', mlp.path, '--version', '3', ...store, '--out', `${folder}/of-folder.onnx`);
    expect(readFileSync(`${folder}/of-topic.onnx`)).toEqual(readFileSync(`${folder}/of-folder.onnx`));
  });

  it('from a state dict the same, also where it is of others', () => {
    const state = ['--state', `${folder}/state.safetensors`];
    rxgrad('export', mlp.path, ...state, '--version', '4', '--out', `${folder}/of-state.onnx`);
    rxgrad('export', mlp.path, ...store, '--out', `${folder}/newest.onnx`);
    expect(readFileSync(`${folder}/of-state.onnx`)).toEqual(readFileSync(`${folder}/newest.onnx`));
    const { tensors } = readTensorFile(`${folder}/state.safetensors`);
    const weights = [...tensors].filter(([name]) => !name.startsWith('state.'));
    writeFileSync(`${folder}/torch.safetensors`, writeTensorFile(planTensorFile(weights, {})));
    const args = ['--state', `${folder}/torch.safetensors`, '--out', `${folder}/of-torch.onnx`];
    expect(rxgrad('export', mlp.path, ...args)).toContain(`weights saved to ${folder}/of-torch.onnx`);
    expect(readFileSync(`${folder}/of-torch.onnx`)).toEqual(readFileSync(`${folder}/newest.onnx`));
  });

  it('the weights alone as safetensors, which parameters load', () => {
    const out = `${folder}/weights.safetensors`;
    rxgrad('export', mlp.path, '--version', '2', ...store, '--out', out);
    const { tensors, metadata } = readTensorFile(out);
    expect(metadata['rxgrad.version']).toBe('2');
    const params = Parameters.create(Object.fromEntries([...tensors].map(([name, { dims }]) => [name, { dims }])));
    params.loadStateDict(out);
    expect(params.version).toBe(2);
    const model = readModel(mlp.path);
    expect([...tensors.keys()]).toEqual(trainableInitializers(model).map(({ name }) => name));
  });

  it('halves as halves, and what was in other files into the one', async () => {
    const h = otherFloats('h', 'float16', [2], [0x3c00, 0x4000]);
    const initializer = [
      external(floats('w', [2], []), { location: 'values.bin' }),
      external(h, { location: 'values.bin', offset: 8 }),
    ];
    const constant = external(floats('k', [], []), { location: 'values.bin', offset: 12 });
    const values = Buffer.concat([Buffer.from(Float32Array.of(1, 2).buffer), h.rawData, Buffer.from(Float32Array.of(5).buffer)]);
    writeFileSync(`${folder}/values.bin`, values);
    const cast = node('Cast', ['h'], ['f'], [{ name: 'to', i: 1n, type: 2 }]);
    const io = { input: [value('x', [2])], output: [value('output', [2])] };
    const nodes = [cast, node('Sum', ['x', 'w', 'f', 'k'], ['output'])];
    writeFileSync(`${folder}/outside.onnx`, buildModel({ ...io, node: nodes, initializer: [...initializer, constant] }));
    const weights = {
      w: { dims: [2], data: Float32Array.of(10, 20) },
      h: { dims: [2], data: Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11) },
    };
    writeFileSync(`${folder}/halves.safetensors`, writeTensorFile(planTensorFile(Object.entries(weights), {})));
    const out = `${folder}/inside.onnx`;
    rxgrad('export', `${folder}/outside.onnx`, '--state', `${folder}/halves.safetensors`, '--out', out);
    const model = readModel(readFileSync(out));
    expect(trainableInitializers(model, ['w', 'h', 'k']).map(({ data }) => [...data])).toEqual([[10, 20], [1, 1 + 2 ** -9], [5]]);
    const session = await InferenceSession.create(readFileSync(out));
    await session.release();
  });

  it('over a file that is there only when told to, and leaves nothing beside it', () => {
    const out = `${folder}/there.onnx`;
    copyFileSync(mlp.path, out);
    expectFailure(
      ['export', mlp.path, ...store, '--out', out],
      /--out: expected a file that is not there yet, or --force, got .*there.onnx/,
    );
    expect(readFileSync(out)).toEqual(readFileSync(mlp.path));
    rxgrad('export', mlp.path, ...store, '--out', out, '--force');
    expect(readFileSync(out)).not.toEqual(readFileSync(mlp.path));
    expect(readdirSync(folder).filter((name) => name.endsWith('.part'))).toEqual([]);
  });
});

describe('answers in one line', () => {
  const other = example('logistic').path;

  it.each<[string, () => string[], RegExp]>([
    [
      'a version that is not there',
      () => [mlp.path, '--version', '7', ...store],
      /expected a version that is there \(4, 3, 2, 1\), got 7/,
    ],
    [
      'a folder without any',
      () => [mlp.path, '--checkpoints', `${folder}/none`],
      /expected a version that is there \(none\), got newest/,
    ],
    ['no checkpoints', () => [mlp.path], /--checkpoints: expected it, or --checkpoint-topic, got neither/],
    [
      'both',
      () => [mlp.path, ...store, '--state', 'x'],
      /--state: expected no --checkpoints nor --checkpoint-topic with it, got both/,
    ],
    [
      'another version than the file has',
      () => [mlp.path, '--state', `${folder}/state.safetensors`, '--version', '3'],
      /expected a version that is there \(4\), got 3/,
    ],
    ['no such file', () => [mlp.path, '--state', `${folder}/nothing`], /--state: expected a file that can be read, got ENOENT/],
    ['a file that is none', () => [mlp.path, '--state', mlp.path], /state dict: expected a safetensors header/],
    ['another model', () => [other, ...store], /Expected the same parameters on both sides/],
    ['no model', () => [`${folder}/log.db`, ...store], /expected an ONNX model/],
    ['no model there', () => [`${folder}/no.onnx`, ...store], /no.onnx: expected an ONNX model, got no such file/],
  ])('%s', (_, args, message) => expectFailure(['export', ...args(), '--out', `${folder}/never.onnx`], message));

  it('what it cannot write', () => {
    expectFailure(
      ['export', mlp.path, ...store, '--out', `${folder}/none/m.onnx`],
      /--out: expected a file that can be written, got ENOENT/,
    );
    expectFailure(
      ['export', mlp.path, ...store, '--out', `${folder}/m.pt`],
      /--out: expected a file that ends in .onnx or .safetensors/,
    );
  });

  it('a checkpoint that is broken', () => {
    const broken = `${folder}/checkpoints/${readdirSync(`${folder}/checkpoints`).find((name) => name.endsWith('.safetensors'))}`;
    truncateSync(broken, 300);
    expectFailure(['export', mlp.path, '--version', '1', ...store, '--out', `${folder}/never.onnx`], /version 1: expected/);
  });
});

it('leaves --version of rxgrad itself as it was', () => {
  expect(rxgrad('--version')).toMatch(/^\d+\.\d+\.\d+/);
});
