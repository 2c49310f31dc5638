import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedLog, encodeEvent, FileCheckpoints, gradientBatch, HotSwapSession } from 'rxgrad';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Training } from '../../chaos/training.ts';
import { planTensorFile, readTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import { example } from '../inference/onnx/example-models.ts';
import { expectFailure, rxgrad } from '../pipelines/rxgrad.ts';
import { wave } from '../stages/gradients.ts';

const { path: model } = example('logistic');
const spoiltAt = 37;
let folder = '';
let at: string[] = [];

/** 60 small gradients; one is not. */
beforeAll(async () => {
  folder = mkdtempSync(`${tmpdir()}/rxgrad-checkpoints-`);
  const session = await HotSwapSession.load(model);
  const log = embeddedLog(`${folder}/log.db`, { synchronous: 'normal' });
  await log.createTopic('gradients');
  const records = Array.from({ length: 60 }, (_, i) => {
    const gradients = [...session.params].map(({ name, dims, length }) => {
      const data = wave(length, i).map((value) => value * (i === spoiltAt ? 1000 : 1e-4));
      return [name, { dims, data }] as const;
    });
    return encodeEvent(gradientBatch({ gradients: Object.fromEntries(gradients), worker: 'w', sequence: i }));
  });
  await log.produce('gradients', records);
  await log.close();
  writeFileSync(`${folder}/examples.safetensors`, examplesOf(session));
  await session.dispose();
  at = ['--log', `${folder}/log.db`, '--topic', 'gradients'];
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Inputs, and as labels what the model makes of them before it is trained. */
function examplesOf({ inputs }: HotSwapSession): Uint8Array {
  const [input] = inputs;
  const width = Number(input!.dims!.at(-1));
  const x = { dims: [8, width], data: wave(8 * width, 5) };
  const labels = { dims: [8], data: Float32Array.from({ length: 8 }, (_, i) => i % 2) };
  return writeTensorFile(planTensorFile(Object.entries({ [input!.name]: x, labels }), {}));
}

const train = (store: readonly string[], ...args: string[]) =>
  rxgrad(
    'run',
    'momentum',
    '--model',
    model,
    ...at,
    '--until-end',
    '--keep',
    '100',
    '--checkpoint-every',
    '1',
    ...store,
    ...args,
  );

describe.each([
  ['a folder', () => ['--checkpoints', `${folder}/checkpoints`]],
  ['a topic', () => ['--checkpoint-topic', 'checkpoints']],
])('checkpoints in %s', (_, storeOf) => {
  const store = (): string[] => [...storeOf(), '--log', `${folder}/log.db`];

  it('are taken, and gone on from', () => {
    const first = train(storeOf(), '--save-state', `${folder}/whole.safetensors`);
    expect(first).toMatch(/goes on from version 0 of checkpoints/);
    const again = train(storeOf(), '--save-state', `${folder}/again.safetensors`);
    expect(again).toMatch(/goes on from version 60/);
    expect(readFileSync(`${folder}/again.safetensors`)).toEqual(readFileSync(`${folder}/whole.safetensors`));
  });

  it('are listed, shown and verified', () => {
    const list = rxgrad('checkpoint', 'list', ...store());
    expect(list).toMatch(/│ 60 +│/);
    expect(list).toMatch(/│ 0 +│/);
    const shown = rxgrad('checkpoint', 'show', '60', ...store());
    expect(shown).toMatch(/optimizer +│ +momentum\(/);
    expect(shown).toMatch(/next offset of gradients\/0 +│ +60/);
    expect(shown).toMatch(/highest sequence of w +│ +59/);
    expect(rxgrad('checkpoint', 'verify', ...store())).toMatch(/^(\d+) of \1 are whole$/m);
  });

  it('are pinned', () => {
    rxgrad('checkpoint', 'pin', '60', ...store());
    expect(rxgrad('checkpoint', 'list', ...store())).toMatch(/│ 60 .*yes/);
    rxgrad('checkpoint', 'unpin', '60', ...store());
    expect(rxgrad('checkpoint', 'list', ...store())).not.toMatch(/yes/);
  });

  it('are replayed from, to a version, a record, or a time', () => {
    const replayed = (to: string) => {
      const file = `${folder}/replayed.safetensors`;
      const said = rxgrad(
        'replay',
        '--to',
        to,
        ...at,
        ...storeOf(),
        '--save-state',
        file,
        '--model',
        model,
        '--save',
        `${folder}/then.onnx`,
      );
      return { said, file: readFileSync(file) };
    };
    expect(replayed('60').file).toEqual(readFileSync(`${folder}/whole.safetensors`));
    expect(replayed('offset:59').file).toEqual(readFileSync(`${folder}/whole.safetensors`));
    expect(replayed('21').said).toContain('version 21: version 21');
    expect(replayed(new Date(Date.now() + 60_000).toISOString()).said).toContain('version 60');
    expect(readFileSync(`${folder}/then.onnx`).byteLength).toBeGreaterThan(50);
  });

  it('tell the record with which a metric went bad', () => {
    const args = ['blame', ...at, ...storeOf(), '--model', model, '--examples', `${folder}/examples.safetensors`];
    const said = rxgrad(...args, '--metric', 'loss', '--above', '1');
    expect(said).toMatch(
      new RegExp(`loss went from [\\d.]+ to [\\d.]+ with version ${spoiltAt + 1}, made by gradients/0@${spoiltAt}`),
    );
    expect(said).toContain(`(worker w, sequence ${spoiltAt})`);
    writeFileSync(`${folder}/metric.mjs`, 'export const metric = async (params) => Math.abs([...params][0].data[0]);');
    expect(rxgrad('blame', ...at, ...storeOf(), '--metric', `${folder}/metric.mjs`, '--above', '5')).toContain(
      `gradients/0@${spoiltAt}`,
    );
  });

  it('are rolled back; the log leads to the same weights again, and to others where a record is skipped', () => {
    const before = readFileSync(`${folder}/whole.safetensors`);
    const versions = () =>
      [
        ...rxgrad('checkpoint', 'list', ...store())
          .split('set aside')[0]!
          .matchAll(/│ (\d+) +│ +\d+ │/g),
      ].map(([, version]) => Number(version));
    const early = versions().filter((version) => version < spoiltAt)[0]!;
    const said = rxgrad('checkpoint', 'rollback', String(early), ...store());
    expect(said).toMatch(new RegExp(`goes on from version ${early}; set aside as .*abandoned-1.*: 60`));
    expect(versions()[0]).toBe(early);
    const [, aside] = rxgrad('checkpoint', 'list', ...store()).split('set aside, as ');
    expect(aside).toMatch(/abandoned-1[\s\S]*│ 60 +│/);
    train(storeOf(), '--save-state', `${folder}/again.safetensors`);
    expect(readFileSync(`${folder}/again.safetensors`)).toEqual(before);
    rxgrad('checkpoint', 'rollback', String(early), ...store(), '--topic', 'gradients', '--skip-to', `0:${spoiltAt + 1}`);
    // Earlier ones would lead to what is skipped.
    expect(versions()).toEqual([early]);
    const skipped = train(storeOf(), '--save-state', `${folder}/skipped.safetensors`);
    expect(skipped).toMatch(new RegExp(`version +│ +${early + 60 - spoiltAt - 1}`));
    expect(readFileSync(`${folder}/skipped.safetensors`)).not.toEqual(before);
  });
});

describe('a training that still runs', () => {
  const store = () => ['--checkpoints', `${folder}/shared`];
  const running = () => Training.rxgrad(['run', 'momentum', '--model', model, ...at, ...store(), '--checkpoint-every', '1']);

  it('is ended by another one, or by a rollback, with an exit code of its own; a pin does not touch it', async () => {
    train(store());
    const first = running();
    await first.says('goes on from version');
    rxgrad('checkpoint', 'pin', '60', ...store());
    expect(first.ended).toBe(false);
    const second = running();
    expect([await first.exit(), await second.says('goes on from version')]).toEqual([3, true]);
    expect(first.said).toMatch(/another writer has taken over \(process \d+ on host .*RXGRAD_FENCED/);
    const early = new FileCheckpoints(`${folder}/shared`).list().then((entries) => String(entries.at(-1)!.version));
    rxgrad('checkpoint', 'rollback', await early, ...store());
    expect(await second.exit()).toBe(3);
    expect(train(store())).toContain(`goes on from version ${await early} `);
  });
});

describe('a checkpoint that is broken', () => {
  const store = () => ['--checkpoints', `${folder}/broken`];
  it('is named, and passed over', () => {
    train(store(), '--save-state', `${folder}/whole.safetensors`);
    const newest = readdirSync(`${folder}/broken`)
      .filter((name) => name.endsWith('.safetensors'))
      .sort()
      .at(-1)!;
    truncateSync(join(folder, 'broken', newest), 200);
    expectFailure(['checkpoint', 'verify', ...store()], /expected every checkpoint to be whole, but 1 are not/);
    expect(train(store(), '--save-state', `${folder}/again.safetensors`)).toMatch(/goes on from version \d+/);
    expect(readFileSync(`${folder}/again.safetensors`)).toEqual(readFileSync(`${folder}/whole.safetensors`));
  });
});

it('a saved state goes on behind what it contains', () => {
  const [half, whole] = [`${folder}/half.safetensors`, `${folder}/on.safetensors`];
  const run = (...args: string[]) => rxgrad('run', 'momentum', '--model', model, ...at, '--until-end', ...args);
  run('--save-state', half);
  expect(run('--load-state', half, '--save-state', whole)).toContain(`goes on at gradients/0@60, behind what ${half} contains`);
  // Stages are not known before a batch has come through them.
  expect(readTensorFile(readFileSync(whole)).tensors).toEqual(readTensorFile(readFileSync(half)).tensors);
  expect(run('--load-state', half, '--from', 'beginning')).toMatch(/rejected 60/);
});

it.each<[string[], RegExp]>([
  [['checkpoint', 'list'], /--checkpoints: expected it, or --checkpoint-topic, got neither/],
  [['checkpoint', 'show', '7', '--checkpoints', '/nowhere'], /expected a version that is there \(none\), got 7/],
  [['checkpoint', 'list', '--checkpoints', 'a', '--checkpoint-topic', 'b'], /no --checkpoint-topic with it/],
  [
    ['run', 'momentum', '--model', model, '--topic', 't', '--checkpoints', 'a', '--load-state', 'b'],
    /no other place to begin from/,
  ],
  [['replay', '--to', 'yesterday', '--topic', 't'], /Expected a version, offset:N/],
  [['replay', '--to', '7', '--topic', 't'], /--brokers: expected it, --kafka-config or --log/],
  [['blame', '--topic', 't', '--metric', 'loss', '--log', 'none.db', '--checkpoints', 'a'], /--model and --examples with loss/],
])('answers %j in a line that says what to do', (args, message) => expectFailure(args, message));
