import { setTimeout as delay } from 'node:timers/promises';
import { Subject } from 'rxjs';
import type { GradientBatch } from '../src/events.ts';
import { optimizer } from '../src/optimizers/optimizer.ts';
import { atMost, type Report, rowOf } from './report.ts';
import { atOddOffset, gradientBytes, model, received, setups } from './step-contestants.ts';

const parameters = 25_000_000;
const periodMs = 1;
const steps = 30;

/** How late a timer of 1 ms comes on the thread on which models of 25 million parameters take steps. */
export default async function timer(): Promise<Report> {
  const idle = await latenesses(() => delay(1000));
  const rows = [rowOf('no steps', idle, Math.max)];
  const aims = [];
  for (const [name, { config }] of Object.entries(setups)) {
    const params = model(parameters, 4);
    const next = received(params, [atOddOffset(gradientBytes(parameters))]);
    const batches = new Subject<GradientBatch>();
    let stepped = (): void => {};
    const subscription = batches.pipe(optimizer(params, config)).subscribe(() => stepped());
    const step = (): Promise<void> =>
      new Promise((resolve) => {
        stepped = resolve;
        batches.next(next());
      });
    // Memory that is touched for the first time is the system's business.
    for (let i = 0; i < 3; i++) await step();
    const late = await latenesses(async () => {
      for (let i = 0; i < steps; i++) await step();
    });
    subscription.unsubscribe();
    rows.push(rowOf(`${name}, ${steps} steps`, late, Math.max));
    aims.push(atMost(`ms that the timer was late at most, ${name}`, 5, Math.max(...late)));
  }
  return {
    name: 'timer',
    measures: `a timer of ${periodMs} ms beside steps of ${parameters} parameters: clips, decay and rule, from received buffers`,
    tables: [{ title: 'how late (best: the latest)', unit: 'ms', rows }],
    aims,
    notRun: [],
  };
}

/** How much later than its period each tick came, while something else was done. */
async function latenesses(work: () => Promise<unknown>): Promise<number[]> {
  const late: number[] = [];
  let last = performance.now();
  const interval = setInterval(() => {
    const now = performance.now();
    late.push(Math.max(0, now - last - periodMs));
    last = now;
  }, periodMs);
  await work();
  clearInterval(interval);
  return late;
}
