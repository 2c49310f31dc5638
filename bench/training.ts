import { setTimeout as delay, setImmediate as eventLoopTurn } from 'node:timers/promises';
import { Tensor } from 'onnxruntime-node';
import { Subject } from 'rxjs';
import {
  type GradientBatch,
  gradientBatch,
  HotSwapSession,
  type HotSwapSessionOptions,
  hotSwap,
  momentum,
} from '../src/index.ts';
import { mlpModel } from './mlp-model.ts';
import { takeTurns } from './race.ts';
import { atMost, type Report, rowOf, type Table } from './report.ts';
import { pairedRatio, quantile } from './statistics.ts';

const sizes = [256, 768, 1024, 16] as const;
const rounds = 7;
const seconds = 3;
/** Predictions a second, whatever becomes of those before: as they come from outside. */
const perSecond = 200;
const batchesPerSecond = 25;
const limit = 1.1;
const ways: Readonly<Record<string, HotSwapSessionOptions>> = {
  'on this thread': {},
  'on a thread of its own': { workers: 1 },
};

/** How long predictions take while the same process trains, beside those of one that does not. */
export default async function training(): Promise<Report> {
  const tables: Table[] = [];
  const aims = [];
  for (const [way, options] of Object.entries(ways)) {
    const found = await measure(options);
    tables.push({
      title: `predictions ${way}`,
      unit: 'ms',
      rows: Object.entries(found).flatMap(([what, times]) => [
        rowOf(
          `${what}, p50`,
          times.map((of) => quantile(of, 0.5)),
        ),
        rowOf(
          `${what}, p99`,
          times.map((of) => quantile(of, 0.99)),
        ),
      ]),
    });
    const p99 = (times: number[][]): number[] => times.map((of) => quantile(of, 0.99));
    aims.push(
      atMost(`predictions ${way}: p99 while training against idle`, limit, pairedRatio(p99(found.training), p99(found.idle))),
    );
  }
  return {
    name: 'training',
    measures: `${perSecond} predictions a second with a million weights, while ${batchesPerSecond} gradient batches a second are applied by Momentum`,
    tables,
    aims,
    notRun: [],
  };
}

async function measure(options: HotSwapSessionOptions): Promise<{ readonly idle: number[][]; readonly training: number[][] }> {
  const session = await HotSwapSession.load(mlpModel(sizes), undefined, options);
  await session.warmUp();
  const batches$ = new Subject<GradientBatch>();
  const subscription = batches$.pipe(momentum(session.params, { lr: 1e-6 }), hotSwap(session)).subscribe();
  const gradients = Object.fromEntries([...session.params].map(({ name, data }) => [name, data.map((x) => x / 100)]));
  const batch = gradientBatch({ gradients });
  const times: { idle: number[][]; training: number[][] } = { idle: [], training: [] };
  await takeTurns(
    {
      idle: async () => record(times.idle, await predictAtRate(session)),
      training: async () => {
        const ending = new AbortController();
        const trained = train(batches$, batch, ending.signal);
        const found = await predictAtRate(session);
        ending.abort();
        await trained;
        return record(times.training, found);
      },
    },
    rounds,
  );
  subscription.unsubscribe();
  await session.dispose();
  // The first round warms up.
  return { idle: times.idle.slice(1), training: times.training.slice(1) };
}

function record(rounds: number[][], times: number[]): number {
  rounds.push(times);
  return times.length;
}

async function train(batches$: Subject<GradientBatch>, batch: GradientBatch, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    batches$.next(batch);
    await delay(1000 / batchesPerSecond);
  }
}

/** Milliseconds from when each prediction was due until it was there. */
async function predictAtRate(session: HotSwapSession): Promise<number[]> {
  const x = new Tensor(
    'float32',
    Float32Array.from({ length: sizes[0] }, (_, i) => Math.sin(i)),
    [1, sizes[0]],
  );
  const start = performance.now();
  const times: number[] = [];
  const running: Promise<unknown>[] = [];
  for (let n = 0; n < perSecond * seconds; n++) {
    const due = start + (1000 * n) / perSecond;
    while (performance.now() < due - 1.5) await delay(1);
    while (performance.now() < due) await eventLoopTurn();
    running.push(session.predict({ x }).then(() => times.push(performance.now() - due)));
  }
  await Promise.all(running);
  return times;
}
