import { describe, expect, it, onTestFinished } from 'vitest';
import { RxgradError } from '../../../src/errors.ts';
import { floats, inputsOf, start } from './running.ts';

const x = { name: 'x', datatype: 'FP32', shape: [1, 2], data: [1, 2] };
const value = { ...x, name: 'value' };

/** What is wrong with a request to a model with the inputs `value` and `x`, and what the answer says. */
const wrong: readonly (readonly [what: string, request: unknown, status: number, error: string])[] = [
  ['an array', [], 400, 'body: expected a JSON object, got an array'],
  ['null', null, 400, 'body: expected a JSON object, got null'],
  ['no inputs', {}, 400, 'inputs: expected an array, got none'],
  ['an id that is a number', { ...floats, id: 7 }, 400, 'id: expected text, got what is of type number'],
  ['an input that is none', { inputs: [7] }, 400, 'inputs: expected a JSON object, got what is of type number'],
  ['no name', { inputs: [{ ...x, name: undefined }] }, 400, 'inputs: expected each with a name, got none'],
  ['an unknown type', { inputs: [{ ...x, datatype: 'FP8' }] }, 400, 'tensor "x": expected a datatype of BYTES, BOOL,'],
  ['another type', inputsOf({ datatype: 'INT64', data: [1, 2] }), 400, 'm: expected input "value" as FP32, got INT64'],
  ['no shape', { inputs: [{ ...x, shape: undefined }] }, 400, 'tensor "x": expected a shape, got none'],
  ['a negative size', { inputs: [{ ...x, shape: [-1, 2] }] }, 400, 'a shape of whole numbers from 0 on, got -1'],
  ['half a size', { inputs: [{ ...x, shape: [0.5, 2] }] }, 400, 'a shape of whole numbers from 0 on, got 0.5'],
  ['too many sizes', { inputs: [{ ...x, shape: Array(17).fill(1) }] }, 400, 'a shape of at most 16 sizes, got 17'],
  ['another shape', { inputs: [value, { ...x, shape: [2, 1] }] }, 400, 'expected input "x" with dims [n,2], got [2,1]'],
  ['another rank', { inputs: [value, { ...x, shape: [2] }] }, 400, 'expected input "x" with dims [n,2], got [2]'],
  ['too few elements', { inputs: [{ ...x, data: [1] }] }, 400, 'tensor "x": expected 2 elements, as shape [1,2] says, got 1'],
  ['no data', { inputs: [{ ...x, data: undefined }] }, 400, 'tensor "x": expected data as an array, got none'],
  ['ragged data', { inputs: [{ ...x, shape: [2, 2], data: [[1, 2], [3]] }] }, 400, 'data flat, or nested as its shape [2,2]'],
  [
    'too deep data',
    { inputs: [{ ...x, data: [[[1], [2]]] }] },
    400,
    'tensor "x": expected FP32: finite numbers that it can hold',
  ],
  ['an input too few', { inputs: [x] }, 400, 'expected input "value" as a tensor of float32, got nothing'],
  ['an input twice', { inputs: [x, x] }, 400, 'm: expected input "x" once, got it twice'],
  [
    'an input besides',
    { inputs: [x, { ...x, name: 'z\u001b' }] },
    400,
    'expected input "z?" to be one of value, x, got another name',
  ],
  ['an unknown output', { ...floats, outputs: [{ name: 'z' }] }, 400, 'm: expected an output of the model (same, y), got "z"'],
  ['a parameter that is an object', { ...floats, parameters: { a: {} } }, 400, 'body: parameter "a": expected text, a number'],
  ['a deadline of 0', { ...floats, parameters: { timeout_ms: 0 } }, 400, 'timeout_ms: expected milliseconds above 0, got 0'],
  [
    'shared memory',
    inputsOf({ datatype: 'FP32', parameters: { shared_memory_region: 'r' } }),
    400,
    'got a region of shared memory',
  ],
  [
    'classification',
    { ...floats, outputs: [{ name: 'y', parameters: { classification: 2 } }] },
    400,
    'output "y": expected no such',
  ],
  [
    'data twice',
    inputsOf({ datatype: 'FP32', data: [1, 2], parameters: { binary_data_size: 8 } }),
    400,
    'data or binary_data_size',
  ],
  [
    'bytes that are not there',
    inputsOf({ datatype: 'FP32', parameters: { binary_data_size: 8 } }),
    400,
    '8 bytes behind the JSON, got 0',
  ],
  [
    'a size below 0',
    inputsOf({ datatype: 'FP32', parameters: { binary_data_size: -8 } }),
    400,
    'expected a number of bytes, got -8',
  ],
  ['more elements than came', { inputs: [{ ...x, shape: [4096, 4096] }] }, 400, 'expected 16777216 elements'],
  ['a shape over the limit', { inputs: [{ ...x, shape: [2 ** 40, 2 ** 40] }] }, 413, 'expected at most 16777216 elements'],
  ['too many tensors', { inputs: Array(300).fill(x) }, 413, 'inputs: expected at most 256 tensors, got 300'],
  ['too many outputs', { ...floats, outputs: Array(300).fill({ name: 'y' }) }, 413, 'outputs: expected at most 256 tensors'],
];

it('refuses what is wrong with a request, and says what', async (t) => {
  const { ask } = await start(t);
  for (const [what, json, status, error] of wrong) {
    const answer = await ask('/v2/models/m/infer', { json });
    expect(answer, what).toMatchObject({ status, json: { error: expect.stringContaining(error) } });
    expect(Object.keys(answer.json)).toEqual(['error']);
  }
  expect((await ask('/v2/models/m/infer', { json: floats })).status).toBe(200);
});

it('refuses bodies that are no JSON, or of another kind', async (t) => {
  const { ask } = await start(t, { limits: { bodyBytes: 1000 } });
  const headers = { 'content-type': 'application/json' };
  const send = (body: string | Buffer<ArrayBuffer>, more = {}) =>
    ask('/v2/models/m/infer', { method: 'POST', body, headers: { ...headers, ...more } });
  expect((await send('{')).json.error).toBe('body: expected a JSON object, got 1 bytes that are none');
  expect((await send('')).json.error).toBe('body: expected a JSON object, got no bytes');
  expect((await send(Buffer.of(0x7b, 0xff, 0x7d))).json.error).toBe('body: expected JSON in UTF-8, got other bytes');
  const over = await send(' '.repeat(1001));
  expect([over.status, over.json.error]).toEqual([413, 'body: expected at most 1000 bytes, got 1001']);
  const form = await send('a=b', { 'content-type': 'application/x-www-form-urlencoded' });
  expect([form.status, form.json.error]).toEqual([
    415,
    'Content-Type: expected application/json or application/octet-stream, got another one',
  ]);
  for (const length of ['x', '-1', '99999']) {
    const { status, json } = await send('{}', { 'inference-header-content-length': length });
    expect([status, json.error]).toEqual([400, expect.stringContaining('Inference-Header-Content-Length: expected')]);
  }
  expect((await send('{}', { 'x-request-timeout-ms': 'soon' })).status).toBe(400);
});

it('answers 404 to what is not there', async (t) => {
  const { ask } = await start(t);
  for (const [path, error] of [
    ['/', 'Expected a path of the Open Inference Protocol (/v2/...), got GET /'],
    ['/v2/models', 'Expected a path of the Open Inference Protocol (/v2/...), got GET /v2/models'],
    ['/v2/models/other', 'Expected a model that is served (m), got "other"'],
    ['/v2/models/other/ready', 'Expected a model that is served (m), got "other"'],
    ['/v2/models/m/versions/9', 'm: expected a version that is there (0), got "9"'],
    ['/v2/models/m/versions/stable/ready', 'm: expected a version that is there (0), got "stable"'],
    ['/v2/models/__proto__', 'Expected a model that is served (m), got "__proto__"'],
  ]) {
    const { status, json } = await ask(path!);
    expect([status, json]).toEqual([404, { error }]);
  }
  expect((await ask('/v2/models/other/infer', { json: floats })).status).toBe(404);
  expect((await ask('/v2/models/m/infer')).status).toBe(404);
});

describe('what a prediction fails with', () => {
  it.each([
    [429, '1', new RxgradError('overloaded', { model: 'm', limit: 10 })],
    [503, '1', new RxgradError('staleWeights', { model: 'm', expected: 'newer ones', version: 3, got: 'older ones' })],
    [504, null, new RxgradError('deadlineExceeded', { model: 'm', deadlineMs: 5 })],
    [499, null, new RxgradError('predictionAborted', { model: 'm' })],
  ])('has its status: %d', async (status, retryAfter, error) => {
    const server = await start({ onTestFinished } as never);
    server.model.predict = () => Promise.reject(error);
    const answer = await server.ask('/v2/models/m/infer', { json: floats });
    expect([answer.status, answer.headers.get('retry-after'), answer.json]).toEqual([
      status,
      retryAfter,
      { error: error.message },
    ]);
  });

  it('calls the model by the name that clients know', async (t) => {
    const { ask, model } = await start(t);
    model.predict = () => Promise.reject(new RxgradError('overloaded', { model: '/srv/secret/model.onnx', limit: 10 }));
    const { json } = await ask('/v2/models/m/infer', { json: floats });
    expect(json.error).toMatch(/^m: expected at most 10 predictions to wait/);
  });

  it('is not told where nobody foresaw it; the log has it', async (t) => {
    const { ask, model, lines } = await start(t);
    model.predict = () => Promise.reject(new TypeError('secret detail'));
    const { status, json, headers } = await ask('/v2/models/m/infer', { json: floats });
    expect([status, json]).toEqual([500, { error: 'The server failed; its log says why under the id of this request' }]);
    const line = lines.find(({ level }) => level === 50);
    expect(line).toMatchObject({ requestId: headers.get('x-request-id'), err: { message: 'secret detail' } });
  });
});
