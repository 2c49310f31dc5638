import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, type TestContext } from 'vitest';
import { type EmbeddedLogOptions, embeddedLog } from '../../src/sources/embedded-log.ts';
import type { NewRecord } from '../../src/sources/transport.ts';
import { collect, textOf } from './collector.ts';
import { describeTransport } from './transport-conformance.ts';

describeTransport(
  'embeddedLog',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'rxgrad-log-'));
    return { connect: () => embeddedLog(join(folder, 'log')), remove: () => rmSync(folder, { recursive: true }) };
  },
  { deviations: { 'group members share partitions': 'every consumer gets all partitions' } },
);

describe('the file of an embedded log', () => {
  function logPath(context: TestContext): string {
    const folder = mkdtempSync(join(tmpdir(), 'rxgrad-log-'));
    context.onTestFinished(() => rmSync(folder, { recursive: true }));
    return join(folder, 'log');
  }

  function opened(context: TestContext, path: string, options?: EmbeddedLogOptions) {
    const log = embeddedLog(path, options);
    context.onTestFinished(() => log.close());
    return log;
  }

  it('keeps records and acknowledgements when it is closed and opened again', async (context) => {
    const path = logPath(context);
    const before = embeddedLog(path);
    await before.createTopic('gradients', { partitions: 2 });
    await before.produce('gradients', texts('a', 'b', 'c'));
    const first = await collect(context, before, { topic: 'gradients', group: 'trainer' });
    await first.until(3);
    first.acknowledge({ topic: 'gradients', partition: 0, offset: 1 });
    await before.close();

    const after = opened(context, path);
    expect(await after.endOffsets('gradients')).toEqual([3, 0]);
    const second = await collect(context, after, { topic: 'gradients', group: 'trainer' });
    await second.until(1);
    expect(second.texts()).toEqual(['c']);
    expect(await after.produce('gradients', texts('d'))).toEqual([{ topic: 'gradients', partition: 0, offset: 3 }]);
  });

  it('shows what another process appends, and keeps what resolved before that was killed', async (context) => {
    const path = logPath(context);
    const log = opened(context, path);
    await log.createTopic('gradients');
    const collector = await collect(context, log, { topic: 'gradients' });
    const child = spawn(process.execPath, [join(import.meta.dirname, 'append-forever.ts'), path, 'gradients'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let resolved = -1;
    for await (const line of createInterface(child.stdout)) {
      resolved = Number(line);
      if (resolved === 200) child.kill('SIGKILL');
    }
    expect(child.signalCode ?? (await once(child, 'exit'))[1]).toBe('SIGKILL');
    expect(resolved).toBeGreaterThanOrEqual(200);
    const [end] = await log.endOffsets('gradients');
    expect(end).toBeGreaterThan(resolved);
    await collector.until(end!);
    expect(collector.texts()).toEqual(Array.from({ length: end! }, (_, i) => `${i}`));
  });

  it('wakes a consumer within milliseconds when another thread appends', async (context) => {
    const path = logPath(context);
    // Polls too seldom to be of help.
    const log = opened(context, path, { pollIntervalMs: 60_000 });
    await log.createTopic('gradients');
    const worker = new Worker(new URL('./append-when-told.ts', import.meta.url), { workerData: { path, topic: 'gradients' } });
    context.onTestFinished(async () => void (await worker.terminate()));
    await once(worker, 'message');
    const waits: number[] = [];
    let delivered = () => {};
    await collect(context, log, {
      topic: 'gradients',
      deliver: (_, __, records) => {
        for (const { value } of records) waits.push(performance.timeOrigin + performance.now() - Number(textOf(value)));
        delivered();
      },
    });
    for (let i = 0; i < 50; i++) {
      const delivery = new Promise<void>((resolve) => {
        delivered = resolve;
      });
      worker.postMessage('append');
      await delivery;
    }
    const median = waits.toSorted((a, b) => a - b)[25]!;
    context.annotate(`${median.toFixed(2)} ms from produce in another thread to deliver`);
    expect(waits).toHaveLength(50);
    // What a busy machine makes of the others tells nothing.
    expect(Math.min(...waits)).toBeLessThan(20);
  });

  it('holds one record of each key of a compacted topic, in a file that stays small', async (context) => {
    const path = logPath(context);
    const log = opened(context, path, { synchronous: 'normal' });
    await log.createTopic('checkpoints', { compacted: true });
    for (let i = 0; i < 200; i++) {
      await log.produce('checkpoints', [{ key: `${i % 2}`, value: new Uint8Array(200_000) }]);
    }
    expect([await log.startOffsets('checkpoints'), await log.endOffsets('checkpoints')]).toEqual([[0], [200]]);
    const collector = await collect(context, log, { topic: 'checkpoints', from: new Map([[0, 5]]) });
    await collector.until(2);
    expect(collector.delivered.map(({ offset }) => offset)).toEqual([198, 199]);
    expect(statSync(path).size).toBeLessThan(5_000_000);
  });

  it('tells the oldest record that is still there', async (context) => {
    const path = logPath(context);
    const log = opened(context, path);
    await log.createTopic('gradients');
    await log.produce('gradients', texts('a', 'b', 'c'));
    const database = new DatabaseSync(path);
    database.exec('DELETE FROM partition_1 WHERE offset < 2');
    database.close();
    expect(await log.startOffsets('gradients')).toEqual([2]);
    const collector = await collect(context, log, { topic: 'gradients', from: 'beginning' });
    await collector.until(1);
    expect(collector.texts()).toEqual(['c']);
  });

  it('refuses a file that is something else, and leaves it as it was', (context) => {
    const text = logPath(context);
    writeFileSync(text, 'weights, as far as anyone knows: 0.1 0.2 0.3');
    expect(() => embeddedLog(text)).toThrow(
      `Embedded log ${text}: expected an rxgrad log, got a file of another kind. Give it a path of its own`,
    );
    const other = logPath(context);
    const database = new DatabaseSync(other);
    context.onTestFinished(() => database.close());
    database.exec('CREATE TABLE users (id INTEGER)');
    expect(() => embeddedLog(other)).toThrow('expected an rxgrad log, got another SQLite database');
    expect(database.prepare('PRAGMA journal_mode').get()).toEqual({ journal_mode: 'delete' });
  });

  it('refuses a log of a later format', (context) => {
    const path = logPath(context);
    const log = opened(context, path);
    const database = new DatabaseSync(path);
    database.exec('PRAGMA user_version = 7');
    database.close();
    expect(() => embeddedLog(path)).toThrow('expected a log of format 1 or 2, got 7. Use the version of rxgrad that wrote it');
    expect(log.name).toBe(`Embedded log ${path}`);
  });

  it('refuses a folder that is not there', (context) => {
    expect(() => embeddedLog(join(logPath(context), 'log'))).toThrow(/unable to open database file.*Check its folder/);
  });

  it('fails all calls that shared a transaction when it cannot be written', async (context) => {
    const path = logPath(context);
    const log = opened(context, path);
    await log.createTopic('gradients');
    const database = new DatabaseSync(path);
    database.exec(
      "CREATE TRIGGER full BEFORE INSERT ON partition_1 WHEN new.offset = 1 BEGIN SELECT RAISE(ABORT, 'disk is full'); END",
    );
    database.close();
    const calls = [log.produce('gradients', texts('a')), log.produce('gradients', texts('b'))];
    for (const call of calls)
      await expect(call).rejects.toMatchObject({ key: 'transportFailed', message: expect.stringContaining('disk is full') });
    expect(await log.endOffsets('gradients')).toEqual([0]);
  });
});

function texts(...values: string[]): NewRecord[] {
  return values.map((text) => ({ value: Buffer.from(text) }));
}
