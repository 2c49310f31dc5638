import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { embeddedLog, HotSwapSession, memoryTransport, observations } from 'rxgrad';
import { expect, it } from 'vitest';
import { followWeights } from '../../src/cli/serve/replica.ts';
import { eventually } from '../eventually.ts';
import { linearModel } from '../serve/everything-model.ts';
import { publishedTraining } from '../serve/published-training.ts';

const place = { topic: 'weights', model: 'm', requests: undefined };

function logLines() {
  const lines: Record<string, unknown>[] = [];
  return { lines, log: pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) }) };
}

it('keeps the last weights when their log is gone, asks for it again, and goes on from there', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-replica-'));
  const path = join(folder, 'log.db');
  const [writing, reading] = [embeddedLog(path), embeddedLog(path)];
  const session = await HotSwapSession.load(linearModel());
  context.onTestFinished(async () => {
    await Promise.all([writing.close(), reading.close(), session.dispose()]);
    rmSync(folder, { recursive: true });
  });
  await writing.createTopic('weights');
  const { lines, log } = logLines();
  const following = followWeights(reading, place, session, log);
  context.onTestFinished(() => following.stop());
  const training = await publishedTraining(writing, 'm', linearModel());
  training.step();
  await following.first;
  expect(session.version).toBe(1);

  // Takes what the log is in from under those that read it.
  const file = new DatabaseSync(path);
  context.onTestFinished(() => file.close());
  file.exec('ALTER TABLE partition_1 RENAME TO gone');
  await eventually(() => expect(lines.length).toBeGreaterThanOrEqual(2));
  expect(lines).toMatchObject([
    { msg: 'weights do not come; the last ones stay', version: 1, againMs: 1000 },
    { version: 1, againMs: 2000 },
  ]);
  file.exec('ALTER TABLE gone RENAME TO partition_1');
  const versions: number[] = [];
  const watching = observations().subscribe((seen) => {
    if (seen.kind === 'swap') versions.push(seen.version);
  });
  training.step();
  await eventually(() => expect(session.version).toBe(2));
  watching.unsubscribe();
  expect(versions).toEqual([2]);
  await training.end();
});

it('fails where there is nothing to wait for, and waits no more when it is stopped', async (context) => {
  const session = await HotSwapSession.load(linearModel());
  context.onTestFinished(() => session.dispose());
  const { log } = logLines();
  const transport = memoryTransport();
  await expect(followWeights(transport, place, session, log).first).rejects.toThrow(/a topic that exists, got "weights"/);
  await transport.createTopic('weights');
  const waiting = followWeights(transport, place, session, log);
  waiting.stop();
  await waiting.first;
  expect(session.version).toBe(0);
});

it('says that other weights are published under the name, until its own come again', async (context) => {
  const transport = memoryTransport();
  await transport.createTopic('weights');
  const session = await HotSwapSession.load(linearModel());
  context.onTestFinished(() => session.dispose());
  const { lines, log } = logLines();
  const following = followWeights(transport, place, session, log);
  context.onTestFinished(() => following.stop());
  expect(following.status).toEqual({ topic: 'weights', model: 'm', state: 'waiting', problem: null });
  const training = await publishedTraining(transport, 'm', linearModel());
  training.step();
  await following.first;
  expect(following.status.state).toBe('following');
  const other = await publishedTraining(transport, 'm', linearModel(), { takeOver: true, writer: 'another' });
  for (let i = 0; i < 3; i++) other.step();
  await other.end();
  await eventually(() => expect(following.status.state).toBe('otherWeights'));
  expect(following.status.problem).toMatch(/expected weights of the course of training that is followed/);
  expect(session.version).toBe(1);
  training.step();
  await eventually(() => expect(following.status).toMatchObject({ state: 'following', problem: null }));
  expect(session.version).toBe(2);
  expect(lines.filter(({ msg }) => msg === 'weights are of no use')).toHaveLength(1);
  await training.end();
});
