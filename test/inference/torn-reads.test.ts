import { Tensor } from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { extremes, load, stepper } from './pool-models.ts';

/** A million takes minutes: see chaos. */
const predictions = Number(process.env.RXGRAD_TORN_PREDICTIONS ?? 4000);
const parameters = Number(process.env.RXGRAD_TORN_PARAMETERS ?? 100_000);
const clients = 8;

it.for([
  ['one by one', 1],
  ['put together', 8],
] as const)('over two threads no prediction is torn, and no client goes back: %s', async ([, maxBatch], t) => {
  const session = await load(t, extremes(parameters), { workers: 2, maxBatch });
  const step = stepper(session);
  const { params } = session;
  let left = predictions;
  let isStepping = true;
  const stepping = (async () => {
    while (isStepping) {
      const version = params.version;
      step();
      while (params.version === version) await new Promise(setImmediate);
      await new Promise(setImmediate);
    }
  })();
  const served = new Set<number>();
  await Promise.all(
    Array.from({ length: clients }, async () => {
      for (let last = 0; left > 0; left--) {
        const { outputs, version } = await session.predict({ x: new Tensor('float32', new Float32Array(1), [1, 1]) });
        const [low, high] = [outputs.low!.data[0], outputs.high!.data[0]];
        if (low !== version || high !== version || version < last) {
          expect.fail(`version ${version} after ${last} with weights from ${low} to ${high}`);
        }
        last = version;
        served.add(version);
      }
    }),
  );
  isStepping = false;
  await stepping;
  expect(served.size).toBeGreaterThan(50);
  expect(params.version).toBeGreaterThan(100);
});
