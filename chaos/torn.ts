import { Tensor } from 'onnxruntime-node';
import { Subject } from 'rxjs';
import { denseModel } from '../bench/dense-model.ts';
import { type GradientBatch, gradientBatch, HotSwapSession, hotSwap, optimizer } from '../src/index.ts';
import type { Ground, Outcome } from './ground.ts';

export interface TornCounts {
  readonly predictions: number;
}

export const full: TornCounts = { predictions: 1_000_000 };

const width = 1024;
const clients = 64;
/** Weights carry their version modulo this: so small that sums of a thousand of them are exact in float32. */
const modulus = 8192;

/**
 * A model of a million weights is stepped without a pause while two threads predict with it. Every weight is its version's number,
 * and every prediction sums all of them: one that saw two versions gives itself away. Some clients ask for kept versions.
 */
export default async function torn({ random, say }: Ground, { predictions }: TornCounts = full): Promise<Outcome> {
  const session = await HotSwapSession.load(denseModel(width), undefined, {
    workers: 2,
    maxBatch: 32,
    maxQueue: 4 * clients,
    keep: { last: 4, everyVersions: 500 },
  });
  const { params } = session;
  params.load({ w: new Float32Array(width * width) }, { version: 0 });
  const batches$ = new Subject<GradientBatch>();
  const training = batches$.pipe(optimizer(params, { type: 'SGD', lr: 1 }), hotSwap(session)).subscribe();
  const up = gradientBatch({ gradients: { w: new Float32Array(width * width).fill(-1) } });
  const around = gradientBatch({ gradients: { w: new Float32Array(width * width).fill(modulus - 1) } });

  let checked = 0;
  let ofKept = 0;
  let wrong = 0;
  let backwards = 0;
  const seen = new Set<number>();
  const x = new Tensor('float32', new Float32Array(width).fill(1 / width), [1, width]);

  const client = async (): Promise<void> => {
    let last = 0;
    while (checked < predictions) {
      const kept = random.chance(0.01) ? params.kept.list()[0] : undefined;
      const { outputs, version } = await session.predict({ x }, kept ? { version: kept.version } : {});
      checked += 1;
      if (kept) {
        ofKept += 1;
        if (version !== kept.version) wrong += 1;
      } else {
        if (version < last) backwards += 1;
        last = version;
        seen.add(version);
      }
      if ((outputs.y!.data as Float32Array).some((value) => value !== version % modulus)) wrong += 1;
      if (checked % 100_000 === 0) say(`torn: ${checked} predictions checked, version ${params.version}`);
    }
  };

  let pushed = 0;
  const trainer = async (): Promise<void> => {
    while (checked < predictions) {
      if (pushed - params.version < 4) {
        pushed += 1;
        batches$.next(pushed % modulus === 0 ? around : up);
      } else {
        await new Promise(setImmediate);
      }
    }
  };

  await Promise.all([trainer(), ...Array.from({ length: clients }, client)]);
  training.unsubscribe();
  const { version } = params;
  await session.dispose();
  const problems = [
    ...(wrong > 0 ? [`${wrong} predictions are of no one version`] : []),
    ...(backwards > 0 ? [`${backwards} predictions are of an older version than the client had seen`] : []),
    ...(seen.size < 20 ? [`only ${seen.size} versions were seen`] : []),
    ...(ofKept === 0 ? ['no kept version was asked for'] : []),
  ];
  const counts = { predictions: checked, 'of kept versions': ofKept, 'versions seen': seen.size, versions: version };
  return { counts, problems };
}
