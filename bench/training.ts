import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay, setImmediate as eventLoopTurn } from 'node:timers/promises';
import { Tensor } from 'onnxruntime-node';
import { Subject } from 'rxjs';
import {
  embeddedLog,
  type GradientBatch,
  gradientBatch,
  HotSwapSession,
  type HotSwapSessionOptions,
  hotSwap,
  momentum,
  weightsFrom,
} from '../src/index.ts';
import { mlpModel } from './mlp-model.ts';
import { takeTurns } from './race.ts';
import { atMost, type Report, rowOf, type Table } from './report.ts';
import { startServer } from './server-process.ts';
import { pairedRatio, quantile } from './statistics.ts';

const sizes = [256, 768, 1024, 16] as const;
const rounds = 5;
const seconds = 4;
/** Predictions a second, whatever becomes of those before: as they come from outside. */
const perSecond = 200;
const batchesPerSecond = 25;
/** Batches from one publication of the weights to the next: two seconds. */
const publishEvery = 50;
const limit = 1.1;
const ways: Readonly<Record<string, () => Promise<Found>>> = {
  'on the thread that trains': () => withTraining({}),
  'on a thread beside it': () => withTraining({ workers: 1 }),
  'in a process that follows its weights': withReplica,
};

/** By round, what each prediction took. */
interface Found {
  readonly idle: number[][];
  readonly training: number[][];
}

/** How long predictions take while weights change, beside while they do not. */
export default async function training(): Promise<Report> {
  const tables: Table[] = [];
  const aims = [];
  for (const [way, measure] of Object.entries(ways)) {
    const found = await measure();
    tables.push({
      title: `predictions ${way}`,
      unit: 'ms',
      rows: Object.entries(found).flatMap(([what, times]: [string, number[][]]) => [
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

async function withTraining(options: HotSwapSessionOptions): Promise<Found> {
  const session = await HotSwapSession.load(mlpModel(sizes), undefined, options);
  const batches$ = new Subject<GradientBatch>();
  const subscription = batches$.pipe(momentum(session.params, { lr: 1e-6 }), hotSwap(session)).subscribe();
  const gradients = Object.fromEntries([...session.params].map(({ name, data }) => [name, data.map((x) => x / 100)]));
  const batch = gradientBatch({ gradients });
  const found = await inTurns(session, () => {
    const ending = new AbortController();
    const trained = train(batches$, batch, ending.signal);
    return () => {
      ending.abort();
      return trained;
    };
  });
  subscription.unsubscribe();
  await session.dispose();
  return found;
}

/** Another process trains, and stands still in between. */
async function withReplica(): Promise<Found> {
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-training-'));
  const path = join(folder, 'log.db');
  const transport = await embeddedLog(path);
  await transport.createTopic('weights', { compacted: true });
  const args = [path, 'weights', JSON.stringify(sizes), String(batchesPerSecond), String(publishEvery)];
  // The last core is its own: threads for its steps would take turns with the predictions.
  const own = ['taskset', '-c', String(cpus().length - 1), process.execPath, '--disable-warning=ExperimentalWarning'];
  const trainer = await startServer('./servers/trainer.ts', args, own);
  const session = await HotSwapSession.load(mlpModel(sizes));
  const following = weightsFrom(transport, { topic: 'weights', model: 'm', into: session.params }).pipe(hotSwap(session));
  const subscription = following.subscribe();
  try {
    return await inTurns(session, () => {
      const before = session.version;
      process.kill(trainer.pid, 'SIGCONT');
      return async () => {
        process.kill(trainer.pid, 'SIGSTOP');
        if (session.version <= before) throw new Error(`expected weights above version ${before}, but none came`);
      };
    });
  } finally {
    process.kill(trainer.pid, 'SIGCONT');
    await trainer.stop();
    subscription.unsubscribe();
    await session.dispose();
    await transport.close();
    await rm(folder, { recursive: true });
  }
}

/** Predicts while training rests, and while it goes on, in turns; the first round warms up. */
async function inTurns(session: HotSwapSession, begin: () => () => Promise<void>): Promise<Found> {
  await session.warmUp();
  const found: Found = { idle: [], training: [] };
  await takeTurns(
    {
      idle: async () => found.idle.push(await predictAtRate(session)),
      training: async () => {
        const end = begin();
        const times = await predictAtRate(session);
        await end();
        return found.training.push(times);
      },
    },
    rounds,
  );
  return { idle: found.idle.slice(1), training: found.training.slice(1) };
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
