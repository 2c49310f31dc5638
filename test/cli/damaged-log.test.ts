import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedLog, encodeEvent, gradientBatch, HotSwapSession } from 'rxgrad';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { Training } from '../../chaos/training.ts';
import { example } from '../inference/onnx/example-models.ts';
import { expectFailure } from '../pipelines/rxgrad.ts';
import { wave } from '../stages/gradients.ts';

const { path: model } = example('logistic');
let whole: Buffer;

/** A log of 20 gradients, and where a run would read it. */
function logOf(bytes: Buffer): { readonly path: string; readonly args: string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-damaged-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'log.db');
  writeFileSync(path, bytes);
  return { path, args: ['run', 'momentum', '--model', model, '--log', path, '--topic', 'gradients'] };
}

beforeAll(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-damaged-'));
  const session = await HotSwapSession.load(model);
  const log = embeddedLog(join(folder, 'log.db'));
  await log.createTopic('gradients');
  await log.produce(
    'gradients',
    Array.from({ length: 20 }, (_, i) => {
      const gradients = [...session.params].map(({ name, dims, length }) => [name, { dims, data: wave(length, i) }] as const);
      return encodeEvent(gradientBatch({ gradients: Object.fromEntries(gradients), worker: 'w', sequence: i }));
    }),
  );
  await log.close();
  await session.dispose();
  whole = readFileSync(join(folder, 'log.db'));
  rmSync(folder, { recursive: true });
});

it('ends a run with exit code 1 and the record whose bytes were flipped', () => {
  const { path, args } = logOf(whole);
  const bytes = Buffer.from(whole);
  const tensor = Buffer.from(wave(8, 7).buffer).subarray(0, 20);
  for (let at = bytes.indexOf(tensor); at !== -1; at = bytes.indexOf(tensor)) for (let i = 0; i < 20; i++) bytes[at + i]! ^= 1;
  writeFileSync(path, bytes);
  expectFailure(
    [...args, '--until-end'],
    /^rxgrad: Embedded log .*, gradients\/0@7: expected a record whose CRC-32 .*RXGRAD_DAMAGED_LOG/,
  );
});

it('ends a run with exit code 1 where the file was cut off by a thousandth', () => {
  const { path, args } = logOf(whole);
  truncateSync(path, Math.floor(whole.length * 0.999));
  expectFailure([...args, '--until-end'], /RXGRAD_DAMAGED_LOG/);
});

it('ends a run that waits for records when its file is deleted', async () => {
  const { path, args } = logOf(whole);
  const run = Training.rxgrad([...args, '--checkpoints', `${path}-checkpoints`]);
  expect(await run.says('goes on from version')).toBe(true);
  rmSync(path);
  expect(await run.exit()).toBe(1);
  expect(run.said).toMatch(/log\.db was deleted, or moved, while it was open.*RXGRAD_DAMAGED_LOG/);
});
