import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { embeddedLog } from '../../src/sources/embedded-log.ts';
import { storageError } from '../../src/sources/log-errors.ts';
import { LogWrites } from '../../src/sources/log-writes.ts';
import type { Transport } from '../../src/sources/transport.ts';

let path = '';
let other: DatabaseSync;

/** A log, and another connection that can hold its write lock. */
async function log(lockTimeoutMs?: number): Promise<Transport> {
  const opened = embeddedLog(path, lockTimeoutMs === undefined ? {} : { lockTimeoutMs });
  await opened.createTopic('gradients');
  other = new DatabaseSync(path);
  onTestFinished(async () => {
    if (other.isOpen) other.close();
    await opened.close();
  });
  return opened;
}

beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-locks-'));
  path = join(folder, 'log');
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
});

const value = (text: string) => ({ value: Buffer.from(text) });

it('waits for the write lock of another process, keeps the order, and leaves the thread alone meanwhile', async () => {
  const transport = await log();
  const writer = await transport.writer('w');
  other.exec('BEGIN IMMEDIATE');
  const done: string[] = [];
  const calls = [
    transport.produce('gradients', [value('a')]).then(() => done.push('a')),
    transport.createTopic('dead').then(() => done.push('dead')),
    writer.write([{ ...value('b'), topic: 'gradients' }]).then(() => done.push('b')),
  ];
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(done).toEqual([]);
  // What is read needs no lock.
  expect(await transport.endOffsets('gradients')).toEqual([0]);
  other.exec('COMMIT');
  await Promise.all(calls);
  expect(done).toHaveLength(3);
  expect(await transport.endOffsets('gradients')).toEqual([2]);
});

it('gives up after a stated time, and says so', async () => {
  const transport = await log(50);
  other.exec('BEGIN IMMEDIATE');
  await expect(transport.produce('gradients', [value('a')])).rejects.toMatchObject({
    key: 'transportInterrupted',
    disposition: 'retry',
    message: expect.stringContaining('another process has held its write lock for 0.05 s. End that process'),
  });
  other.exec('COMMIT');
  expect(await transport.produce('gradients', [value('b')])).toEqual([{ topic: 'gradients', partition: 0, offset: 0 }]);
});

it('does not end a consumption whose acknowledgements have to wait, and writes them in the end', async () => {
  const transport = await log();
  await transport.produce('gradients', [value('a'), value('b')]);
  const errors: Error[] = [];
  const consumption = await transport.consume({
    topic: 'gradients',
    group: 'trainer',
    deliver: () => {},
    onError: (error) => errors.push(error),
  });
  consumption.acknowledge({ topic: 'gradients', partition: 0, offset: 0 });
  other.exec('BEGIN IMMEDIATE');
  let stopped = false;
  const stopping = consumption.stop().then(() => {
    stopped = true;
  });
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
  expect([stopped, other.prepare('SELECT next FROM acknowledged').all()]).toEqual([false, []]);
  other.exec('COMMIT');
  await stopping;
  expect(errors).toEqual([]);
  expect(other.prepare('SELECT next FROM acknowledged').get()).toEqual({ next: 1 });
});

it('tells by a warning that a lock is held for long, once', async () => {
  const writes = new LogWrites('Embedded log x', 60_000, 20);
  const warnings: Error[] = [];
  const listen = (warning: Error) => warnings.push(warning);
  process.on('warning', listen);
  onTestFinished(() => void process.off('warning', listen));
  let tries = 0;
  const locked = storageError('Embedded log x', Object.assign(new Error('database is locked'), { errcode: 5 }));
  const done = await writes.run(() => {
    tries += 1;
    if (warnings.length === 0 || tries < 10) throw locked;
    return 'done';
  });
  expect(done).toBe('done');
  expect(warnings.map(({ message }) => message)).toEqual([
    'Embedded log x: another process has held its write lock for 0.02 s. Appends wait for it, up to 60 s',
  ]);
  await expect(writes.run(() => Promise.reject(new Error('other')))).rejects.toThrow('other');
});
