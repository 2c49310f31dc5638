import { InferenceSession, Tensor } from 'onnxruntime-node';
import { HotSwapSession, type HotSwapSessionOptions } from '../src/index.ts';
import { mlpModel } from './mlp-model.ts';
import { type Contestant, race, timed } from './race.ts';
import { atLeast, type Report, type Table, tableOf } from './report.ts';
import { pairedRatio } from './statistics.ts';

const rounds = 15;
const raw = 'onnxruntime-node alone, constant weights';
const options = { intraOpNumThreads: 1, interOpNumThreads: 1 };
/** A small perceptron, and one of a million weights. */
const models = { small: [16, 64, 64, 4], 'of 1 M': [256, 768, 1024, 16] } as const;
const overlapping = 64;

/** Predictions of sessions whose weights can be swapped, beside onnxruntime with constant ones, in one process. */
export default async function pool(): Promise<Report> {
  const found = [
    await measure('small', 1, {
      inputs: {},
      'inputs, micro-batches of 64': { maxBatch: 64 },
      'inputs, 1 thread': { workers: 1 },
    }),
    await measure('of 1 M', 1, { inputs: {}, 'inputs, 1 thread': { workers: 1 }, 'inputs, 2 threads': { workers: 2 } }),
    await measure('of 1 M', 32, {
      inputs: {},
      'inputs, 1 thread': { workers: 1 },
      'rebuild, 1 thread': { strategy: 'rebuild', workers: 1 },
      auto: { strategy: 'auto', workers: 1 },
    }),
  ];
  const ratio = ({ laps }: Found, name: string): number => pairedRatio(laps[raw]!, laps[name]!);
  return {
    name: 'pool',
    measures: 'predictions in one process; one at a time on this thread, overlapping on others; from src/',
    tables: found.map(({ table }) => table),
    aims: [
      atLeast('small model, batch 1, throughput against onnxruntime-node alone', 0.85, ratio(found[0]!, 'inputs')),
      atLeast('model of 1 M, batch 1, throughput against onnxruntime-node alone', 0.85, ratio(found[1]!, 'inputs')),
      atLeast('model of 1 M, batch 32, auto, throughput against onnxruntime-node alone', 0.95, ratio(found[2]!, 'auto')),
    ],
    notRun: [],
  };
}

interface Found {
  readonly table: Table;
  readonly laps: Readonly<Record<string, number[]>>;
}

async function measure(
  size: keyof typeof models,
  batch: number,
  ways: Readonly<Record<string, HotSwapSessionOptions>>,
): Promise<Found> {
  const layers = models[size];
  const onnx = mlpModel(layers);
  const x = new Tensor(
    'float32',
    Float32Array.from({ length: batch * layers[0] }, (_, i) => Math.sin(i)),
    [batch, layers[0]],
  );
  const alone = await InferenceSession.create(onnx, options);
  const contestants: Record<string, Contestant> = { [raw]: timed(() => alone.run({ x })) };
  const sessions: HotSwapSession[] = [];
  for (const [name, way] of Object.entries(ways)) {
    const session = await HotSwapSession.load(onnx, undefined, way);
    await session.warmUp();
    sessions.push(session);
    const isAlone = !way.workers && way.maxBatch === undefined;
    contestants[name] = isAlone ? timed(() => session.predict({ x })) : overlapped(() => session.predict({ x }));
    if (way.strategy === 'auto') await settle(session, x);
  }
  const laps = await race(contestants, rounds, overlapping);
  for (const session of sessions) await session.dispose();
  await alone.release();
  const title = `model ${size === 'small' ? 'of 5,444 weights' : size}, batch ${batch}`;
  return { table: tableOf(laps, { title, unit: 'µs', reference: raw, divisor: 1000 }), laps };
}

/** Keeps some predictions under way, as many callers do. */
function overlapped(predict: () => Promise<unknown>): Contestant {
  return async (calls) => {
    const start = performance.now();
    let left = calls;
    const caller = async (): Promise<void> => {
      while (left-- > 0) await predict();
    };
    await Promise.all(Array.from({ length: Math.min(overlapping, calls) }, caller));
    return ((performance.now() - start) * 1e6) / calls;
  };
}

/** Predicts until the session has chosen a strategy. */
async function settle(session: HotSwapSession, x: Tensor): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (session.status.strategy.inputsMs === undefined && performance.now() < deadline) {
    await Promise.all(Array.from({ length: 4 }, () => session.predict({ x })));
  }
  console.log(`auto: ${JSON.stringify(session.status.strategy)}`);
}
