import { Tensor } from 'onnxruntime-node';
import { denseModel } from '../../bench/dense-model.ts';
import { HotSwapSession } from '../../src/index.ts';

/** Exits while its threads compute. */
const session = await HotSwapSession.load(denseModel(1500), undefined, { workers: 2 });
const x = new Tensor('float32', new Float32Array(15_000), [10, 1500]);
for (let i = 0; i < 8; i++) predictOn();
setTimeout(() => process.exit(7), 100);

async function predictOn(): Promise<never> {
  for (;;) await session.predict({ x });
}
