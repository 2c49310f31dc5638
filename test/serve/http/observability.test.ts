import { type Observation, observations } from 'rxgrad';
import { expect, it } from 'vitest';
import { madeUpRequest } from '../../../src/inference/made-up-request.ts';
import { eventually } from '../../eventually.ts';
import { servable } from '../servable.ts';
import { typedModel } from '../typed-model.ts';
import { floats, start } from './running.ts';

it('names every request: as the caller does, if plainly', async (t) => {
  const { ask } = await start(t);
  const idOf = async (headers: Record<string, string>, path = '/v2') =>
    (await ask(path, { headers })).headers.get('x-request-id');
  expect(await idOf({ 'x-request-id': 'a.b:C-1/2=' })).toBe('a.b:C-1/2=');
  const own = /^[a-z0-9]+-[a-z0-9]+$/;
  for (const bad of ['a b', '"quoted"', 'ü', 'a'.repeat(129), '']) expect(await idOf({ 'x-request-id': bad })).toMatch(own);
  expect(await idOf({}, '/nowhere')).toMatch(own);
  expect(await idOf({}, '/v2/models/%zz')).toMatch(own);
  expect(await idOf({})).not.toBe(await idOf({}));
});

it('goes on with a trace, and begins one where what came is malformed', async (t) => {
  const { ask, lines } = await start(t);
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const going = await ask('/v2', { headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } });
  expect(going.headers.get('traceresponse')).toMatch(new RegExp(`^00-${traceId}-(?!b7ad6b7169203331)[0-9a-f]{16}-01$`));
  const begun = await ask('/v2', { headers: { traceparent: `00-${traceId}-0000000000000000-01` } });
  expect(begun.headers.get('traceresponse')).toMatch(/^00-(?!0af)[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  expect((await ask('/v2')).headers.get('traceresponse')).toBeNull();
  expect(lines.filter(({ msg }) => msg === 'request')).toMatchObject([{ traceId, parentId: 'b7ad6b7169203331' }, {}, {}]);
});

it('tells who observes of an answer, and of its trace', async (t) => {
  const { ask } = await start(t);
  const seen: Observation[] = [];
  const watching = observations().subscribe((observation) => seen.push(observation));
  t.onTestFinished(() => watching.unsubscribe());
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const headers = { 'x-request-id': 'mine', traceparent: `00-${traceId}-b7ad6b7169203331-01` };
  const { headers: answered } = await ask('/v2/models/m/infer', { json: floats, headers });
  const spanId = answered.get('traceresponse')!.split('-')[2];
  const duration = { durationMs: expect.any(Number) };
  expect(seen).toMatchObject([
    { kind: 'prediction', version: 0, ...duration },
    { kind: 'answer', at: 'm', version: 0, requestId: 'mine', traceId, spanId, ...duration },
  ]);
});

it('logs a line for a request, without bodies and credentials', async (t) => {
  const { ask, lines } = await start(t);
  const headers = { authorization: 'Bearer secret-of-mine', cookie: 'secret-of-mine' };
  await ask('/v2/models/m/infer', { json: { id: 'secret-of-mine', ...floats }, headers });
  await ask('/v2/models/secret\u0085\u202e');
  const [fine, failed] = lines.filter(({ msg }) => msg === 'request');
  expect(fine).toMatchObject({
    level: 20,
    method: 'POST',
    path: '/v2/models/m/infer',
    status: 200,
    requestId: expect.any(String),
    traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
    spanId: expect.stringMatching(/^[0-9a-f]{16}$/),
    durationMs: expect.any(Number),
  });
  expect(failed).toMatchObject({ level: 30, status: 404, path: '/v2/models/secret%C2%85%E2%80%AE' });
  expect(JSON.stringify(lines)).not.toContain('secret-of-mine');
});

it('logs one in so many of those that went well', async (t) => {
  const { ask, lines } = await start(t, { logEvery: 3 });
  for (let i = 0; i < 7; i++) await ask('/v2');
  expect(lines.filter(({ msg, level }) => msg === 'request' && level === 30)).toHaveLength(2);
});

it('logs which strategy a session takes, and why', async (t) => {
  const model = await servable(t, typedModel('float32'), { strategy: 'auto' });
  const { session } = model;
  const { lines } = await start(t, { model });
  const feeds = madeUpRequest('m', session.inputs, 1);
  await eventually(async () => {
    for (let i = 0; i < 32; i++) await session.predict(feeds);
    expect(lines.find(({ strategy }) => strategy === 'inputs' || strategy === 'rebuild')).toMatchObject({
      level: 30,
      msg: expect.stringMatching(/takes [\d.]+ ms a run/),
    });
  });
});
