import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { fromTransport, momentum, Parameters, type Rejection, type TrainingEvent } from 'rxgrad';
import { tap } from 'rxjs';
import { describe, expect, inject, it, type TestContext } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { findPython } from '../python/find-python.ts';

const run = promisify(execFile);
const brokers = inject('brokers');
const page = await readFile(fileURLToPath(new URL('../../docs/producers.md', import.meta.url)), 'utf8');
const blocks = [...page.matchAll(/^## (.*)$|^```python\n([\s\S]*?)^```/gm)];
const steps = 200;
// Both sides compute in float32, in another order.
const tolerance = 1e-5;

/** The Python under a heading of the page, all of it. */
function codeUnder(...headings: string[]): string {
  let heading = '';
  const found = blocks.flatMap(([, title, code]) => {
    heading = title ?? heading;
    return code !== undefined && headings.includes(heading) ? [code] : [];
  });
  expect(found.length, `Python under ${headings.join(', ')}`).toBeGreaterThanOrEqual(headings.length);
  return found.join('\n');
}

/** A model with made-up weights. */
function model(shapes: Readonly<Record<string, number[]>>): Parameters {
  let i = 0;
  const specs = Object.entries(shapes).map(([name, dims]) => {
    const length = dims.reduce((a, b) => a * b);
    return [name, { dims, data: Float32Array.from({ length }, () => Math.sin(++i) / 2) }];
  });
  return Parameters.create(Object.fromEntries(specs));
}

const weightsOf = (params: Parameters) => Object.fromEntries([...params].map(({ name, data }) => [name, data.slice()]));

/** Runs a program of the page, and plays what it sent. */
async function sentBy(context: TestContext, modules: readonly string[], params: Parameters, code: string, saved: string) {
  const found = await findPython(modules);
  if ('reason' in found) return context.skip(found.reason);
  const topic = `producers-${randomUUID()}`;
  const transport = kafkaTransport({ brokers: brokers!.split(',') });
  context.onTestFinished(() => transport.close());
  await transport.createTopic(topic);
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-producers-'));
  context.onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'weights.safetensors'), params.stateDict());
  const program = code.replace("topic, worker = 'gradients'", `topic, worker = '${topic}'`).replace('localhost:9092', brokers!);
  expect(program).toContain(topic);
  await writeFile(join(folder, 'program.py'), `${program}\nopen('after.safetensors', 'wb').write(save(${saved}))\n`);
  await run(found.python, ['program.py'], { cwd: folder });

  const events: TrainingEvent[] = [];
  const rejected: Rejection[] = [];
  const updates: { norm: number; staleness: number | undefined }[] = [];
  let weights: Record<string, Float32Array> = {};
  await fromTransport(transport, { topic, from: 'beginning', until: 'end' })
    .pipe(
      tap((event) => events.push(event)),
      momentum(params, { lr: 0.05, momentum: 0.9, rejections: { next: (rejection) => rejected.push(rejection) } }),
    )
    .forEach(({ version, facts: { gradientNorm, staleness } }) => {
      updates.push({ norm: gradientNorm, staleness });
      if (version === steps) weights = weightsOf(params);
    });
  expect(rejected.map(({ error }) => error.message)).toEqual([]);

  const after = Parameters.create(Object.fromEntries([...params].map(({ name, dims }) => [name, { dims }])));
  after.loadStateDict(join(folder, 'after.safetensors'), { strict: false });
  return { events, updates, weights, expected: weightsOf(after) };
}

function expectAlike(weights: Readonly<Record<string, Float32Array>>, expected: Readonly<Record<string, Float32Array>>): void {
  const furthest = Math.max(
    ...Object.entries(expected).flatMap(([name, of]) => [...of].map((w, i) => Math.abs(w - weights[name]![i]!))),
  );
  expect(furthest).toBeLessThan(tolerance);
}

// An environment for Python may have to be made first.
describe.skipIf(!brokers)('the page for producers', () => {
  it('trains with torch to the weights that torch has itself', async (context) => {
    const shapes = { '0.weight': [16, 8], '0.bias': [16], '2.weight': [1, 16], '2.bias': [1] };
    const params = model({ ...shapes, emb: [1000, 4] });
    const before = weightsOf(params);
    const code = codeUnder('A training loop', 'Epochs and metrics', 'Half the bytes', 'The touched rows of an embedding');
    const sent = await sentBy(context, ['torch', 'safetensors', 'confluent_kafka'], params, code, 'model.state_dict()');
    const { events, updates, weights, expected } = sent;
    const { emb: _, ...dense } = expected;
    expectAlike(weights, dense);
    expect(Math.max(...Object.keys(dense).map((name) => Math.abs(weights[name]![0]! - before[name]![0]!)))).toBeGreaterThan(1e-2);

    const kinds = events.map(({ kind }) => kind);
    expect(kinds).toEqual([...Array(steps).fill('gradients'), 'epoch', 'metric', 'gradients', 'gradients']);
    for (const [i, { norm, staleness }] of updates.slice(0, steps).entries()) {
      const event = events[i]!;
      if (event.kind !== 'gradients') throw new Error(`Expected gradients, got ${event.kind}`);
      expect(event.facts).toMatchObject({ worker: 'worker-1', base: i, batchSize: 32, loss: expect.any(Number) });
      expect(event.facts.norm).toBeCloseTo(norm, 4);
      expect(staleness).toBe(0);
    }
    expect(updates).toHaveLength(steps + 2);
    const { emb } = weightsOf(params);
    const moved = [...emb!].flatMap((weight, i) => (weight === before.emb![i] ? [] : ([[i, weight - before.emb![i]!]] as const)));
    expect(moved.map(([i]) => i)).toEqual([12, 13, 14, 15, 28, 29, 30, 31]);
    for (const [i, by] of moved) expect(by).toBeCloseTo(i < 16 ? -0.05 : -0.1, 6);
  });

  it('trains with NumPy to the weights that NumPy has itself', async (context) => {
    const params = model({ w: [8] });
    const code = codeUnder('Without torch').split('\nimport jax\n')[0]!;
    const sent = await sentBy(context, ['numpy', 'safetensors', 'confluent_kafka'], params, code, "{'w': w}");
    expectAlike(sent.weights, sent.expected);
    expect(sent.updates).toHaveLength(steps);
  });

  it('names the gradients of JAX by their path', async (context) => {
    const found = await findPython(['jax', 'safetensors']);
    if ('reason' in found) return context.skip(found.reason);
    const code = codeUnder('Without torch').split('\nimport jax\n')[1]!;
    const { stdout } = await run(found.python, [
      '-c',
      `import jax\n${code}\nprint(value[8:8 + int.from_bytes(value[:8], 'little')].decode())`,
    ]);
    expect(JSON.parse(stdout)).toEqual({ 'dense.kernel': { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] } });
  });
});
