import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import {
  deadLetters,
  embeddedLog,
  encodeEvent,
  fromTransport,
  gradientBatch,
  type NewRecord,
  Parameters,
  type Rejection,
  sgd,
} from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { afterAll, expect, it, onTestFinished } from 'vitest';
import { expectFailure, rxgrad } from '../pipelines/rxgrad.ts';

const dead = 'gradients.dead';
const model = () => Parameters.create({ w: { dims: [2], data: [0, 0] } });
const record = (sequence: number, values: number[], name = 'w'): NewRecord =>
  encodeEvent(gradientBatch({ gradients: { [name]: Float32Array.from(values) }, worker: 'w1', sequence }), { key: 'model' });

/** Goes through what the log holds, on new parameters, and returns them with the reasons of what was left out. */
async function train(log: string): Promise<{ params: Parameters; reasons: string[] }> {
  const transport = embeddedLog(log);
  const params = model();
  const reasons: string[] = [];
  const { next, flushed } = deadLetters(transport, { topic: dead });
  const both = (rejection: Rejection) => {
    reasons.push(rejection.reason);
    return next(rejection);
  };
  const updates$ = fromTransport(transport, { topic: 'gradients', from: 'beginning', until: 'end' }).pipe(
    sgd(params, { lr: 1, rejections: { next: both, flushed } }),
  );
  await lastValueFrom(updates$, { defaultValue: null });
  await transport.close();
  return { params, reasons };
}

/** A log with a NaN, a name that the model does not have, and something that is no gradient, between good ones. */
async function logWithLetters(): Promise<string> {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-dead-`);
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const log = `${folder}/log.db`;
  const transport = embeddedLog(log);
  await transport.createTopic('gradients');
  const other: NewRecord = { value: Buffer.from('\u001b[31mred'), headers: { ce_type: 'other' } };
  await transport.produce('gradients', [
    record(1, [1, 1]),
    record(2, [Number.NaN, 3]),
    record(3, [1], 'v'),
    other,
    record(4, [1, 1]),
  ]);
  await transport.close();
  await train(log);
  return log;
}

const list = (log: string, ...args: string[]) =>
  JSON.parse(rxgrad('dead-letters', 'list', dead, '--log', log, '--json', ...args)) as {
    total: number;
    reasons: Record<string, number>;
    letters: { id: string; worker: string; sequence: string; reason: string; attempt: number; retriedAs: string | null }[];
  };

it('lists letters with their reasons, each once', async () => {
  const log = await logWithLetters();
  // The same events again, as behind a crash.
  await train(log);
  const { total, reasons, letters } = list(log);
  expect(total).toBe(3);
  expect(reasons).toEqual({ notFinite: 1, unknownParameter: 1, undecodable: 1 });
  expect(letters).toMatchObject([
    { id: 'gradients/0@1', reason: 'notFinite', worker: 'w1', sequence: '2', attempt: 1, retriedAs: null },
    { id: 'gradients/0@2', reason: 'unknownParameter' },
    { id: 'gradients/0@3', reason: 'undecodable', worker: null },
  ]);
  expect(list(log, '--reason', 'notFinite', 'undecodable').letters).toHaveLength(2);
  expect(list(log, '--limit', '1').letters.map(({ id }) => id)).toEqual(['gradients/0@3']);
  expect(list(log, '--since', '1h').total).toBe(3);
  expect(list(log, '--since', '2100-01-01').total).toBe(0);
  const table = rxgrad('dead-letters', 'list', dead, '--log', log);
  expect(table).toMatch(/gradients\/0@1 +│ +notFinite +│ +SGD +│ +w1 +│ +2 +│ +1 +│ +\d+ s/);
  expect(table).toMatch(/all +│ +3/);
});

it('shows what is in a letter, and saves its value', async () => {
  const log = await logWithLetters();
  const shown = rxgrad('dead-letters', 'show', dead, 'gradients/0@1', '--log', log, '--save', `${log}.value`);
  expect(shown).toContain('gradients/0@1: expected finite gradients, got NaN or Infinity in "w" (RXGRAD_NOT_FINITE)');
  expect(shown).toMatch(/w +│ +\[2\] +│ +F32 +│ +1 +│ +0 +│ +3.000 +│ +3.000 +│ +3.000/);
  expect(shown).toMatch(/ce_source +│ +w1/);
  expect(readFileSync(`${log}.value`)).toEqual(Buffer.from(record(2, [Number.NaN, 3]).value!));
  const other = rxgrad('dead-letters', 'show', dead, 'gradients/0@3', '--log', log);
  expect(other).toContain('first bytes: 1b 5b 33 31 6d 72 65 64');
  expect(other).toContain('as text: \\u{1b}[31mred');
});

it('sends letters again, once, so that they are applied once, behind a worker that has gone on', async () => {
  const log = await logWithLetters();
  const retry = (...args: string[]) => rxgrad('dead-letters', 'retry', dead, '--log', log, ...args);
  expect(retry('--all', '--dry-run')).toMatch(/would send gradients\/0@1 to gradients\n[\s\S]*letters to send: 3/);
  expect(list(log).letters.every(({ retriedAs }) => retriedAs === null)).toBe(true);

  // What the model did not have it has now; the others stay as bad as they were.
  expect(retry('gradients/0@2', 'gradients/0@1')).toContain('gradients/0@2 sent as gradients/0@6\nletters sent: 2\n');
  expect(retry('gradients/0@2')).toContain('letters sent: 0, 1 left out that were retried before');
  expect(list(log).letters.map(({ retriedAs }) => retriedAs)).toEqual(['gradients/0@5', 'gradients/0@6', null]);

  // Sent once more in spite of that, and by somebody whose process died before the mark: still once.
  retry('gradients/0@2', '--again');
  const transport = embeddedLog(log);
  const params = Parameters.create({ w: { dims: [2], data: [0, 0] }, v: { dims: [1], data: [0] } });
  const rejected: Rejection[] = [];
  await lastValueFrom(
    fromTransport(transport, { topic: 'gradients', from: new Map([[0, 3]]), until: 'end' }).pipe(
      sgd(params, { lr: 1, rejections: { next: (rejection) => rejected.push(rejection) } }),
    ),
  );
  await transport.close();
  expect(params.get('v').data).toEqual(Float32Array.of(-1));
  expect(rejected.map(({ reason, worker, sequence }) => [reason, worker, sequence])).toEqual([
    ['undecodable', undefined, undefined],
    ['notFinite', expect.stringMatching(/^retry:gradients\/0@1#[\w-]+:w1$/), 0],
    ['duplicate', expect.stringMatching(/^retry:gradients\/0@2#[\w-]+:w1$/), 0],
  ]);

  // What is rejected again is a letter of its own, which knows where it first stood.
  await train(log);
  const second = list(log).letters.find(({ id }) => id === 'gradients/0@5')!;
  expect(second).toMatchObject({
    attempt: 2,
    worker: expect.stringMatching(/^retry:gradients\/0@1#[\w-]+:w1$/),
    retriedAs: null,
  });
  retry('gradients/0@5');
  const { params: _, reasons } = await train(log);
  expect(reasons.filter((reason) => reason === 'notFinite')).toHaveLength(3);
  expect(list(log).letters.at(-1)).toMatchObject({
    id: 'gradients/0@8',
    attempt: 3,
    worker: expect.stringMatching(/^retry:gradients\/0@1#[\w-]+:w1$/),
  });
});

it('sends them elsewhere', async () => {
  const log = await logWithLetters();
  const transport = embeddedLog(log);
  await transport.createTopic('review');
  await transport.close();
  expect(rxgrad('dead-letters', 'retry', dead, '--log', log, '--reason', 'undecodable', '--to', 'review')).toContain(
    'gradients/0@3 sent as review/0@0\nletters sent: 1\n',
  );
});

it('are kept by a run that is told to', async () => {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-dead-run-`);
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const transport = embeddedLog(`${folder}/log.db`);
  await transport.createTopic('gradients');
  await transport.produce('gradients', [{ value: null, headers: {} }]);
  await transport.close();
  const pipeline = [
    'run',
    'momentum',
    '--model',
    new URL('../models/logistic.onnx', import.meta.url).pathname,
    '--topic',
    'gradients',
  ];
  rxgrad(...pipeline, '--log', `${folder}/log.db`, '--until-end', '--dead-letters', dead);
  expect(list(`${folder}/log.db`).reasons).toEqual({ undecodable: 1 });
});

const missing = mkdtempSync(`${tmpdir()}/rxgrad-none-`);
afterAll(() => rmSync(missing, { recursive: true }));

it.each<[string[], RegExp]>([
  [['list', dead], /--brokers: expected it, .*--log, got none/],
  [['list', dead, '--log', `${missing}/l.db`], /RXGRAD_UNKNOWN_TOPIC/],
  [['retry', dead, '--log', `${missing}/l.db`], /positions: expected some, or --reason, --since or --all, got none/],
  [['retry', dead, 'gradients/0@1', '--all', '--log', `${missing}/l.db`], /positions: expected none with --all/],
  [['retry', dead, '--all', '--to', dead, '--log', `${missing}/l.db`], /--to: expected another topic than that of the letters/],
  [['list', dead, '--since', 'soon'], /Expected a time as 30s/],
  [['list', dead, '--limit', '-1'], /Expected a whole number/],
])('answers %j in a line that says what to do', (args, message) => {
  expectFailure(['dead-letters', ...args], message);
});
