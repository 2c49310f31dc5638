import { setTimeout as delay } from 'node:timers/promises';
import { Subject } from 'rxjs';
import { embeddedLog, type GradientBatch, gradientBatch, HotSwapSession, momentum, publishWeights } from '../../src/index.ts';
import { mlpModel } from '../mlp-model.ts';

// Trains without an end, and publishes its weights now and then: what a server elsewhere follows.
const [path, topic, sizes, perSecond, publishEvery] = process.argv.slice(2) as [string, string, string, string, string];
const { params } = await HotSwapSession.load(mlpModel(JSON.parse(sizes)));
const batches$ = new Subject<GradientBatch>();
batches$
  .pipe(
    momentum(params, { lr: 1e-6 }),
    publishWeights(await embeddedLog(path), { topic, model: 'm', everySteps: Number(publishEvery) }),
  )
  .subscribe();
const batch = gradientBatch({
  gradients: Object.fromEntries([...params].map(({ name, data }) => [name, data.map((x) => x / 100)])),
});
console.log('http://127.0.0.1:0');
for (;;) {
  batches$.next(batch);
  await delay(1000 / Number(perSecond));
}
