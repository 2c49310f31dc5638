import { InferenceSession, Tensor } from 'onnxruntime-node';
import { HotSwapSession } from '../src/index.ts';
import { type Model, readModel } from '../src/inference/onnx/model.ts';
import { withInitializers } from '../src/inference/onnx/with-initializers.ts';
import { denseModel } from './dense-model.ts';
import { race, timed } from './race.ts';
import { type Aim, atMost, type Report, type Row, rowOf, type Table } from './report.ts';
import { median } from './statistics.ts';

const widths = [128, 1024, 5000];
const flipRounds = 30;
const rebuildRounds = 9;
const options = { intraOpNumThreads: 1, interOpNumThreads: 1 };

/** Microseconds until a session predicts with other weights. */
export default async function swap(): Promise<Report> {
  const tables: Table[] = [];
  for (const width of widths) tables.push(await measure(width));
  const flip = (table: Table): number => table.rows[0]!.median;
  const growth = await measureGrowth();
  return {
    name: 'swap',
    measures: 'other weights in a live onnxruntime session; from src/, Node strips the types',
    tables: [...tables, growth.table],
    aims: [
      atMost('flip at 25 M parameters, µs', 50, flip(tables.at(-1)!)),
      atMost('flip at 25 M parameters against the flip at 16 K', 10, flip(tables.at(-1)!) / flip(tables[0]!)),
      ...growth.aims,
    ],
    notRun: [],
  };
}

async function measure(width: number): Promise<Table> {
  const onnx = denseModel(width);
  const model = readModel(onnx);
  const session = await HotSwapSession.load(onnx);
  const { params } = session;
  const origin = params.origins.of(null);
  const others = Object.fromEntries([...params].map(({ name, data }) => [name, data.slice()]));
  const laps = await race(
    {
      'flip (weights stepped in place)': timed(() => {
        params.leftRight.commit(params.leftRight.target, params.version + 1, origin);
        session.swap();
      }),
      'copy and flip (weights of other parameters)': timed(() => params.load(others)),
    },
    flipRounds,
  );
  const rebuilds: number[] = [];
  for (let round = 0; round < rebuildRounds; round++) rebuilds.push(await rebuildNs(model, others));
  await session.dispose();

  const all: Readonly<Record<string, number[]>> = { ...laps, 'new session (weights written into the model)': rebuilds };
  const reference = 'flip (weights stepped in place)';
  const rows = Object.entries(all).map(([what, ns]): Row => {
    const row = rowOf(
      what,
      ns.map((value) => value / 1000),
    );
    return what === reference ? row : { ...row, against: reference, ratio: median(ns) / median(all[reference]!) };
  });
  return { title: `${(width * width).toLocaleString('en')} parameters`, unit: 'µs', rows };
}

/** Memory that many swaps leave behind, in MiB, behind others that warm up. */
async function measureGrowth(): Promise<{ readonly table: Table; readonly aims: Aim[] }> {
  const onnx = denseModel(1024);
  const x = new Tensor('float32', new Float32Array(1024), [1, 1024]);
  const swaps: Record<string, { readonly session: HotSwapSession; readonly count: number }> = {
    inputs: { session: await HotSwapSession.load(onnx), count: 10_000 },
    rebuild: { session: await HotSwapSession.load(onnx, undefined, { strategy: 'rebuild' }), count: 200 },
  };
  const rows: Row[] = [];
  for (const [strategy, { session, count }] of Object.entries(swaps)) {
    const { params } = session;
    const weights = { w: params.get('w').data.slice() };
    const swap = async (): Promise<void> => {
      params.load(weights);
      session.swap();
      do {
        await session.predict({ x });
      } while (session.version < params.version);
    };
    // Memory of the engines and of the allocator has its size after some hundreds.
    for (let n = 0; n < Math.max(500, count / 2); n++) await swap();
    const before = process.memoryUsage.rss();
    for (let n = 0; n < count; n++) await swap();
    const grown = (process.memoryUsage.rss() - before) / 2 ** 20;
    rows.push(rowOf(`${count.toLocaleString('en')} swaps, strategy ${strategy}`, [grown]));
    await session.dispose();
  }
  const aims = rows.map(({ what, median: grown }) => atMost(`${what}: growth of memory, MiB`, 16, grown));
  return { table: { title: 'growth of memory, 1 M parameters', unit: 'MiB', rows }, aims };
}

async function rebuildNs(model: Model, weights: Readonly<Record<string, Float32Array>>): Promise<number> {
  const start = performance.now();
  const session = await InferenceSession.create(withInitializers(model, weights), options);
  const ns = (performance.now() - start) * 1e6;
  await session.release();
  return ns;
}
