import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tensor } from 'onnxruntime-node';
import {
  checkpoint,
  clipByGlobalNorm,
  encodeEvent,
  FileCheckpoints,
  fromTransport,
  type GradientBatch,
  gradientBatch,
  memoryTransport,
  Parameters,
  recover,
  sgd,
  staleness,
} from 'rxgrad';
import { firstValueFrom, lastValueFrom, of } from 'rxjs';
import { expect, it } from 'vitest';
import { joined } from '../../src/inference/batch.ts';

/** More than a call can have arguments. */
const many = 200_000;

function gradientsOf(count: number) {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { dims: [1], data: Float32Array.of(i % 7) }]));
}

function parametersOf(count: number): Parameters {
  return Parameters.create(Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { dims: [1] }])));
}

it('of 200,000 parameters each is stepped, kept and recovered', { timeout: 300_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-many-'));
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  const store = new FileCheckpoints(folder);
  const params = parametersOf(many);
  const batch = gradientBatch({ gradients: gradientsOf(many), base: 0 });
  const stages = of(batch).pipe(staleness({ type: 'drop', above: 1 }), clipByGlobalNorm(1e6));
  await lastValueFrom(stages.pipe(sgd(params, { lr: 1 }), checkpoint(store, { everySteps: 1 })));
  const again = parametersOf(many);
  const transport = memoryTransport();
  await transport.createTopic('gradients', { partitions: 1 });
  await recover(again, store, { transport, topic: 'gradients' });
  expect(again.version).toBe(1);
  let differing = 0;
  for (let i = 0; i < many; i++) if (again.latest[`p${i}`]![0] !== -(i % 7)) differing += 1;
  expect(differing).toBe(0);
});

it('a message holds as many as its header does, and no other is written', async () => {
  const count = 50_000;
  const transport = memoryTransport();
  await transport.createTopic('gradients', { partitions: 1 });
  await transport.produce('gradients', [encodeEvent(gradientBatch({ gradients: gradientsOf(count) }))]);
  const source = fromTransport(transport, { topic: 'gradients', from: 'beginning', until: 'end' });
  const { message, gradients } = (await firstValueFrom(source)) as GradientBatch;
  expect(message.layout.tensors).toHaveLength(count);
  expect([...gradients[`p${count - 1}`]!]).toEqual([(count - 1) % 7]);
  expect(() => encodeEvent(gradientBatch({ gradients: gradientsOf(many) }))).toThrow(/a header of at most 4194304 bytes/);
});

it('200,000 texts are put together', () => {
  const texts = Array.from({ length: many }, (_, i) => `${i}`);
  const feeds = { text: new Tensor('string', texts, [many, 1]) };
  const { text } = joined([{ name: 'text', type: 'string', dims: ['batch', 1] }], [feeds, feeds]);
  expect(text!.dims).toEqual([2 * many, 1]);
  expect((text!.data as unknown as string[]).at(-1)).toBe(`${many - 1}`);
});
