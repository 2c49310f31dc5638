import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { embeddedLog } from 'rxgrad';
import { expect, it, onTestFinished } from 'vitest';
import { expectFailure, rxgrad } from '../pipelines/rxgrad.ts';

/** A log with a topic that keeps all records, and one that is compacted. */
async function logWithTopics(): Promise<string> {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-topics-`);
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const transport = embeddedLog(`${folder}/log.db`);
  await transport.createTopic('kept', { partitions: 2 });
  await transport.createTopic('compacted', { compacted: true });
  await transport.close();
  return `${folder}/log.db`;
}

it('describes a topic', async () => {
  const log = await logWithTopics();
  const table = rxgrad('topics', 'describe', 'kept', '--log', log);
  expect(table).toMatch(/setting +│ +kept/);
  expect(table).toMatch(/partitions +│ +2/);
  expect(table).toMatch(/cleanup.policy +│ +none: keeps all records/);
  expect(JSON.parse(rxgrad('topics', 'describe', 'compacted', '--log', log, '--json'))).toMatchObject({
    topic: 'compacted',
    partitions: 1,
    compacted: true,
    deletes: false,
    retentionMs: null,
    server: null,
  });
});

it('checks topics against what they hold, and fails where one loses records', async () => {
  const log = await logWithTopics();
  const check = (...args: string[]) => rxgrad('topics', 'check', ...args, '--log', log);
  expect(check('kept', '--as', 'gradients')).toBe('kept: fits gradients\n');
  expect(check('compacted', '--as', 'weights')).toBe('compacted: fits weights\n');
  expect(check('kept', '--as', 'dead-letters', '--json')).toBe('[]\n');
  const failed = failureOf(() => check('kept', 'compacted', '--as', 'gradients'));
  expect(failed.status).toBe(1);
  expect(failed.stdout).toBe(
    'kept: fits gradients\n' +
      'compacted: error: cleanup.policy is compact, but must be delete: a later record with the same key replaces gradients that are not ' +
      'applied yet, so a recovery applies only the rest. To change it: create another topic with this setting, and use that\n',
  );
  const found = JSON.parse(check('kept', '--as', 'checkpoints', '--json'));
  expect(found).toMatchObject([{ severity: 'warning', topic: 'kept', setting: 'cleanup.policy', expected: 'compact' }]);
  const large = failureOf(() => check('compacted', '--as', 'checkpoints', '--record-bytes', '1000000000'));
  expect(large).toMatchObject({
    status: 1,
    stdout: expect.stringContaining('max.message.bytes is 900000000, but must be at least'),
  });
});

it('says what it needs', async () => {
  const log = await logWithTopics();
  expectFailure(['topics', 'check', 'kept', '--log', log], /required option '--as <role>' not specified/);
  expectFailure(['topics', 'check', 'none', '--as', 'gradients', '--log', log], /expected a topic that exists, got "none"/);
  expectFailure(['topics', 'describe', 'none', '--log', log], /expected a topic that exists, got "none"/);
});

function failureOf(action: () => void): { readonly status: number; readonly stdout: string } {
  try {
    action();
  } catch (error) {
    return error as { status: number; stdout: string };
  }
  return expect.unreachable('expected it to fail');
}
