import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import {
  embeddedLog,
  encodeEvent,
  fromTransport,
  gradientBatch,
  HotSwapSession,
  type OptimizerConfig,
  optimizer,
  type TrainingEvent,
} from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { expect, it, type TestContext } from 'vitest';
import { readTensorFile } from '../../src/params/tensor-file.ts';
import { example } from '../inference/onnx/example-models.ts';
import { wave } from '../stages/gradients.ts';
import { expectFailure, rxgrad } from './rxgrad.ts';

const { path: model } = example('logistic');

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-momentum-`);
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

it('takes any optimizer, and goes on from what it saved: nothing is applied twice', async (t) => {
  const folder = folderOf(t);
  const config: OptimizerConfig = {
    type: 'Adam',
    lr: { type: 'ExponentialLR', baseLr: 0.1, gamma: 0.5 },
    gradClipNorm: 1,
    tickOn: 'step',
  };
  writeFileSync(`${folder}/adam.json`, JSON.stringify(config));
  const session = await HotSwapSession.load(model);
  t.onTestFinished(() => session.dispose());
  const events = [1, 2, 3, 4, 5].map((sequence): TrainingEvent => {
    const gradients = [...session.params].map(({ name, dims, length }) => [name, { dims, data: wave(length, sequence) }]);
    return gradientBatch({ gradients: Object.fromEntries(gradients), worker: 'w', sequence });
  });
  const append = async (some: readonly TrainingEvent[]): Promise<void> => {
    const log = embeddedLog(`${folder}/log.db`);
    await log.createTopic('gradients');
    await log.produce(
      'gradients',
      some.map((event) => encodeEvent(event as never)),
    );
    await log.close();
  };
  const common = ['run', 'momentum', '--model', model, '--topic', 'gradients', '--log', `${folder}/log.db`, '--until-end'];
  const run = (...args: string[]) => rxgrad(...common, '--optimizer', `${folder}/adam.json`, ...args);

  await append(events.slice(0, 3));
  expect(run('--save-state', `${folder}/state`)).toMatch(/version\s+│\s+3/);
  await append(events.slice(3));
  const output = run('--load-state', `${folder}/state`, '--save-state', `${folder}/state-5`);
  expect(output).toMatch(/version\s+│\s+5/);
  expect(output).toContain(`goes on at gradients/0@3, behind what ${folder}/state contains`);
  expect(output).toMatch(/events rejected\s+│\s+0/);
  const again = run('--load-state', `${folder}/state`, '--from', 'beginning');
  expect(again).toMatch(/version\s+│\s+5/);
  expect(again).toMatch(/events rejected\s+│\s+duplicate 3/);
  // Nothing new came: what was loaded is what there is.
  expect(run('--load-state', `${folder}/state-5`)).toMatch(/version\s+│\s+5/);

  const log = embeddedLog(`${folder}/log.db`);
  t.onTestFinished(() => log.close());
  const events$ = fromTransport(log, { topic: 'gradients', from: 'beginning', until: 'end' });
  await lastValueFrom(events$.pipe(optimizer(session.params, config)));
  expect(session.params.version).toBe(5);
  expect(readTensorFile(`${folder}/state-5`).tensors).toEqual(readTensorFile(session.params.stateDict()).tensors);
});

const common = ['run', 'momentum', '--model', model, '--topic', 't'];

it.each<[string[], RegExp]>([
  [['run', 'momentum'], /--model/],
  [['run', 'momentum', '--model', 'missing.onnx', '--topic', 't'], /missing.onnx.*RXGRAD_INVALID_MODEL/],
  [[...common, '--momentum', '1'], /momentum: momentum: expected <1, got 1/],
  [[...common, '--optimizer', 'missing.json'], /--optimizer: expected a file of JSON, got .*missing.json.*RXGRAD_INVALID_OPTION/],
  [[...common, '--optimizer', 'x.json', '--lr', '1'], /--optimizer: expected no other option on the optimizer with it, got lr 1/],
  [[...common, '--load-state', 'missing.safetensors'], /missing.safetensors/],
])('answers %j in a line that says what to do', expectFailure);
