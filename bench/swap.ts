import { InferenceSession } from 'onnxruntime-node';
import { HotSwapSession } from '../src/index.ts';
import { type Model, readModel } from '../src/inference/onnx/model.ts';
import { withInitializers } from '../src/inference/onnx/with-initializers.ts';
import { denseModel } from './dense-model.ts';
import { race, timed } from './race.ts';
import { atMost, type Report, type Row, rowOf, type Table } from './report.ts';
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
  return {
    name: 'swap',
    measures: 'other weights in a live onnxruntime session; from src/, Node strips the types',
    tables,
    aims: [atMost('flip at 25 M parameters against the flip at 16 K', 10, flip(tables.at(-1)!) / flip(tables[0]!))],
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

async function rebuildNs(model: Model, weights: Readonly<Record<string, Float32Array>>): Promise<number> {
  const start = performance.now();
  const session = await InferenceSession.create(withInitializers(model, weights), options);
  const ns = (performance.now() - start) * 1e6;
  await session.release();
  return ns;
}
