import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import timers from 'node:timers/promises';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { RxgradError } from '../../src/errors.ts';
import { embeddedLog } from '../../src/sources/embedded-log.ts';
import { isLocked, storageError } from '../../src/sources/log-errors.ts';
import { LogWrites } from '../../src/sources/log-writes.ts';
import type { Transport } from '../../src/sources/transport.ts';
import { withCallsOf } from '../builtin-calls.ts';

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

it('lets the file go at the end, though what a group has acknowledged could not be written', async () => {
  const transport = await log(50);
  await transport.produce('gradients', [value('a')]);
  const delivered = Promise.withResolvers<void>();
  const consumption = await transport.consume({
    topic: 'gradients',
    group: 'trainers',
    deliver: () => delivered.resolve(),
    onError: delivered.reject,
  });
  await delivered.promise;
  other.exec('BEGIN IMMEDIATE');
  consumption.acknowledge({ topic: 'gradients', partition: 0, offset: 0 });
  await expect(transport.close()).rejects.toMatchObject({ key: 'transportInterrupted' });
  other.exec('ROLLBACK');
  other.close();
  const files = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  expect(files.filter((file) => file.startsWith(path))).toEqual([]);
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

describe('writes of a log that another process has locked', () => {
  const locked = () => storageError('Embedded log x', Object.assign(new Error('database is locked'), { errcode: 5 }));

  it('are tried again after growing pauses, up to a tenth of a second', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const pauses: number[] = [];
    withCallsOf(timers, { setTimeout: (async (ms: number) => void pauses.push(ms)) as typeof timers.setTimeout });
    const writes = new LogWrites('Embedded log x', 60_000);
    let tries = 0;
    await writes.run(() => {
      tries += 1;
      // The first one is in this turn.
      if (tries <= 26) throw locked();
    });
    expect(pauses.slice(0, 4)).toEqual([5, 10, 15, 20]);
    expect(Math.max(...pauses)).toBe(100);
  });

  it('are not tried again where something else is wrong', async () => {
    const writes = new LogWrites('Embedded log x', 60_000);
    let tries = 0;
    const failing =
      (error: unknown, first = error) =>
      () => {
        tries += 1;
        throw tries === 1 ? first : error;
      };
    await expect(writes.run(failing(new Error('full')))).rejects.toThrow('full');
    expect(tries).toBe(1);
    tries = 0;
    await expect(writes.run(failing(new Error('full'), locked()))).rejects.toThrow('full');
    expect(tries).toBe(2);
  });

  it('come in their order, each whether or not those before it succeeded', async () => {
    const writes = new LogWrites('Embedded log x', 60_000);
    const done: string[] = [];
    let held = true;
    const first = writes.run(() => {
      if (held) throw locked();
      done.push('first');
    });
    const second = writes.run(() => {
      done.push('second');
      throw new Error('refused');
    });
    const third = writes.run(() => void done.push('third'));
    expect(done).toEqual([]);
    held = false;
    await first;
    await expect(second).rejects.toThrow('refused');
    await third;
    expect(done).toEqual(['first', 'second', 'third']);
    await new Promise(setImmediate);
    // With none before it, one is done in this turn again.
    void writes.run(() => void done.push('fourth'));
    expect(done).toHaveLength(4);
  });

  it('fail at once where they are not to wait', async () => {
    const writes = new LogWrites('Embedded log x', 0);
    let tries = 0;
    const failed = writes.run(() => {
      tries += 1;
      throw locked();
    });
    await expect(failed).rejects.toMatchObject({ key: 'transportInterrupted', message: expect.stringContaining('for 0 s') });
    expect(tries).toBe(2);
  });
});

describe('what SQLite reports', () => {
  const reported = (errcode: number) => storageError('log', Object.assign(new Error('m'), { errcode }));

  it.each([
    [5, 'transportInterrupted', 'another process holds its write lock. Try again'],
    [5 + 256, 'transportInterrupted', 'another process holds its write lock'],
    [11, 'damagedLog', 'SQLite cannot read it: m'],
    [266, 'damagedLog', 'SQLite cannot read it: m'],
    [522, 'damagedLog', 'SQLite cannot read it: m'],
    [26, 'transportFailed', 'a file of another kind'],
    [10, 'transportFailed', 'm. Check its folder'],
    [13, 'transportFailed', 'm. Check its folder'],
  ])('as %i is an error that says what to do', (errcode, key, words) => {
    expect(reported(errcode)).toMatchObject({ key, message: expect.stringContaining(words) });
  });

  it('is left as it is where it is an error of rxgrad, or none', () => {
    const own = reported(5);
    expect(storageError('log', own)).toBe(own);
    expect(storageError('log', 'text')).toBe('text');
    const range = Object.assign(new Error('too large'), { code: 'ERR_OUT_OF_RANGE' });
    expect(storageError('log', range)).toMatchObject({ key: 'damagedLog' });
  });

  it('is a lock where another connection has it alone', () => {
    expect([5, 261, 11, 10].map((errcode) => isLocked(reported(errcode)))).toEqual([true, true, false, false]);
    const other = new RxgradError('transportInterrupted', { transport: 'T', problem: 'busy', advice: 'Try again' });
    expect([isLocked(other), isLocked(new Error('m')), isLocked(undefined)]).toEqual([false, false, false]);
  });
});
