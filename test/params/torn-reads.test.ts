import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { gradientBatch, hotSwap, optimizer, Parameters } from 'rxgrad';
import { Subject } from 'rxjs';
import { expect, it } from 'vitest';

// Each weight starts at 0 and each step adds 1: all weights carry their version's number.
it('shows a reader on another thread one version at a time', async () => {
  const params = Parameters.create({ a: { dims: [300, 10] }, b: { dims: [7] }, c: { dims: [1000] } });
  const reader = new Worker(new URL('./torn-reads.worker.ts', import.meta.url), { workerData: params.share() });
  const batches$ = new Subject<ReturnType<typeof gradientBatch>>();
  let steps = 0;
  const subscription = batches$
    .pipe(optimizer(params, { type: 'SGD', lr: 1 }), hotSwap({ params, swap: () => params.swap() }))
    .subscribe(() => {
      steps += 1;
    });
  const batch = gradientBatch({
    gradients: { a: new Float32Array(3000).fill(-1), b: new Float32Array(7).fill(-1), c: new Float32Array(1000).fill(-1) },
  });
  await once(reader, 'message');

  let pushed = 0;
  while (pushed < 4000) {
    // As fast as steps are taken: a step that waits for the reader lets the event loop turn.
    do {
      batches$.next(batch);
      pushed += 1;
    } while (steps === pushed && pushed % 200 !== 0);
    await new Promise(setImmediate);
    while (steps !== pushed) await new Promise(setImmediate);
  }
  reader.postMessage('stop');
  const [report] = (await once(reader, 'message')) as [{ reads: number; torn: number; backwards: number; versions: number }];
  subscription.unsubscribe();

  expect(report).toMatchObject({ torn: 0, backwards: 0 });
  expect(report.reads).toBeGreaterThan(100);
  expect(report.versions, 'versions seen').toBeGreaterThan(10);
  expect(steps).toBe(pushed);
});
