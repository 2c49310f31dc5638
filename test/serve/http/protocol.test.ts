import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { floats, start } from './running.ts';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));

describe('routes of the protocol', () => {
  it('tell of the server', async (t) => {
    const { ask } = await start(t);
    expect((await ask('/v2/health/live')).json).toEqual({ live: true });
    const ready = await ask('/v2/health/ready');
    expect(ready.status).toBe(200);
    expect(ready.json).toEqual({ live: true, ready: true, models: [{ name: 'm', ready: true, providers: ['cpu'] }] });
    const extensions = ['binary_tensor_data', 'parameters', 'model_configuration', 'model_repository', 'statistics'];
    expect((await ask('/v2')).json).toEqual({ name: 'rxgrad', version, extensions });
  });

  it('tell of a model, with and without a version', async (t) => {
    const { ask } = await start(t, { type: 'string' });
    const metadata = {
      name: 'm',
      versions: ['0'],
      platform: 'onnx_onnxv1',
      inputs: [
        { name: 'value', datatype: 'BYTES', shape: [-1, -1] },
        { name: 'x', datatype: 'FP32', shape: [-1, 2] },
      ],
      outputs: [
        { name: 'same', datatype: 'BYTES', shape: [-1, -1] },
        { name: 'y', datatype: 'FP32', shape: [-1, 1] },
      ],
    };
    expect((await ask('/v2/models/m')).json).toEqual(metadata);
    expect((await ask('/v2/models/m/versions/0')).json).toEqual(metadata);
    expect((await ask('/v2/models/m/ready')).json).toEqual({ name: 'm', ready: true });
    expect((await ask('/v2/models/m/versions/0/ready')).json).toEqual({ name: 'm', ready: true });
    expect((await ask('/v2/models/m/config')).json).toMatchObject({
      name: 'm',
      max_batch_size: 0,
      input: [{ data_type: 'TYPE_STRING', dims: [-1, -1] }, { data_type: 'TYPE_FP32' }],
    });
    expect((await ask('/v2/models/m/versions/0/config')).status).toBe(200);
  });

  it('list the models', async (t) => {
    const { ask, model } = await start(t);
    const entry = { name: 'm', version: '0', state: 'READY', reason: '' };
    expect((await ask('/v2/repository/index', { method: 'POST' })).json).toEqual([entry]);
    model.ready = false;
    const reason = 'it is not warmed up yet';
    expect((await ask('/v2/repository/index', { json: {} })).json).toEqual([{ ...entry, state: 'UNAVAILABLE', reason }]);
    expect((await ask('/v2/repository/index', { json: { ready: true } })).json).toEqual([]);
  });

  it('are not ready before the model is', async (t) => {
    const { ask, model } = await start(t);
    model.ready = false;
    expect((await ask('/v2/health/live')).status).toBe(200);
    const ready = await ask('/v2/health/ready');
    expect(ready.status).toBe(503);
    expect(ready.json).toMatchObject({ ready: false, models: [{ name: 'm', ready: false }] });
    const model503 = await ask('/v2/models/m/ready');
    expect([model503.status, model503.json]).toEqual([503, { name: 'm', ready: false }]);
    const infer = await ask('/v2/models/m/infer', { json: floats });
    expect(infer.status).toBe(503);
    expect(infer.headers.get('retry-after')).toBe('1');
  });

  it('predict', async (t) => {
    const { ask } = await start(t);
    const { status, json } = await ask('/v2/models/m/infer', { json: { id: '42', ...floats } });
    expect(status).toBe(200);
    expect(json).toMatchObject({
      model_name: 'm',
      model_version: '0',
      id: '42',
      parameters: { version: 0, age_ms: expect.any(Number) },
      outputs: [
        { name: 'same', datatype: 'FP32', shape: [1, 2], data: [1, 2] },
        { name: 'y', datatype: 'FP32', shape: [1, 1], data: [32] },
      ],
    });
    const one = await ask('/v2/models/m/infer', { json: { ...floats, outputs: [{ name: 'y' }] } });
    expect(one.json.outputs).toEqual([{ name: 'y', datatype: 'FP32', shape: [1, 1], data: [32] }]);
  });

  it('count what was asked', async (t) => {
    const { ask } = await start(t);
    await ask('/v2/models/m/infer', { json: floats });
    await ask('/v2/models/m/infer', { json: { inputs: [] } });
    const stats = { name: 'm', version: '0', inference_count: 1, inference_stats: { success: { count: 1 }, fail: { count: 1 } } };
    for (const path of ['/v2/models/stats', '/v2/models/m/stats', '/v2/models/m/versions/0/stats']) {
      expect((await ask(path)).json).toMatchObject({ model_stats: [stats] });
    }
  });

  it('pass on what there is to say of the weights', async (t) => {
    const { ask, model } = await start(t);
    const { predict } = model;
    const position = { topic: 'gradients', partition: 3, offset: 17 };
    model.predict = async (feeds) => ({ ...(await predict(feeds)), version: 7, ageMs: 12.4, position, stale: true });
    const { json } = await ask('/v2/models/m/infer', { json: floats });
    expect(json.model_version).toBe('7');
    expect(json.parameters).toEqual({ version: 7, age_ms: 12, position: 'gradients/3/17', stale: true });
  });

  it('ask for a version by its number or its label, within the deadline', async (t) => {
    const { ask, model } = await start(t, { timeouts: { predictMs: 5000 } });
    const { predict } = model;
    const asked: unknown[] = [];
    model.predict = (feeds, options = {}) => {
      asked.push([options.version, options.deadlineMs, options.signal?.aborted]);
      return predict(feeds);
    };
    await ask('/v2/models/m/infer', { json: floats });
    await ask('/v2/models/m/versions/12/infer', { json: floats });
    await ask('/v2/models/m/versions/stable/infer', { json: { ...floats, parameters: { timeout_ms: 250 } } });
    await ask('/v2/models/m/infer', { json: { ...floats, parameters: { timeout: 300_000 } } });
    await ask('/v2/models/m/infer', { json: { ...floats, parameters: { timeout_ms: 300_000 } } });
    await ask('/v2/models/m/infer', { json: { ...floats, parameters: { timeout: 300_000_000 } } });
    await ask('/v2/models/m/infer', { json: floats, headers: { 'x-request-timeout-ms': '400' } });
    await ask('/v2/models/m/infer', { json: floats, headers: { 'x-request-timeout-ms': '400000' } });
    expect(asked).toEqual([
      [undefined, 5000, false],
      [12, 5000, false],
      ['stable', 250, false],
      [undefined, 300, false],
      [undefined, 5000, false],
      [undefined, 5000, false],
      [undefined, 400, false],
      [undefined, 5000, false],
    ]);
  });

  it('say which of other servers they do not have', async (t) => {
    const { ask } = await start(t);
    const { status, json } = await ask('/v2/models/m/generate', { json: {} });
    expect([status, json]).toEqual([
      501,
      { error: '/v2/models/{model}/generate is something that other servers of the protocol offer, but not this one' },
    ]);
    expect((await ask('/v2/repository/models/m/load', { json: {} })).status).toBe(501);
    expect((await ask('/v2/systemsharedmemory/status')).status).toBe(501);
  });
});
