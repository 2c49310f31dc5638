import {
  clipByGlobalNorm,
  clipByValue,
  isRxgradError,
  momentum,
  type ScanOptions,
  sgd,
  stepLR,
  type TrainingEvent,
} from 'rxgrad';
import { from, type OperatorFunction, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, bitsOf, model, scans } from '../optimizers/batches.ts';

type Pipe = ReturnType<typeof momentum>;
const stages: OperatorFunction<TrainingEvent, TrainingEvent> = pipe(clipByGlobalNorm(1), clipByValue({ a: 0.5, '*': 2 }));
const usual = { lr: 0.1, momentum: 0.9 };

/** The message of what ends a scan that goes on from the state of another, or its bits. */
function goOn(first: (params: ReturnType<typeof model>) => Pipe, second: typeof first): string | bigint[] | unknown {
  const [before, after] = [model(), model()];
  from([batch(1)])
    .pipe(first(before))
    .subscribe();
  after.loadStateDict(before.stateDict(), { exact: true });
  let failed: unknown = null;
  from([batch(2)])
    .pipe(second(after))
    .subscribe({ error: (error) => (failed = error) });
  if (failed === null) return bitsOf(after);
  if (!isRxgradError(failed)) throw failed;
  return failed.message;
}

describe('going on exactly', () => {
  it.each(scans)('works for the same optimizer: %s', (_, scan) => {
    const make = (params: ReturnType<typeof model>) => pipe(stages, scan(params, { lr: 0.1 }));
    expect(goOn(make, make)).toEqual(expect.anything());
    expect(goOn(make, make)).not.toEqual(expect.any(String));
  });

  it.each<[string, ScanOptions & { momentum?: number }, string]>([
    ['momentum', { ...usual, momentum: 0.8 }, 'momentum was 0.9, and is 0.8'],
    ['rate', { ...usual, lr: 0.2 }, 'lr was 0.1, and is 0.2'],
    [
      'schedule',
      { ...usual, lr: stepLR({ baseLr: 0.1, stepSize: 1 }) },
      'lr was 0.1, and is {"baseLr":0.1,"stepSize":1,"type":"StepLR"}',
    ],
    ['when rates tick', { ...usual, tickOn: 'step' }, 'tickOn was "epoch", and is "step"'],
  ])('names another %s', (_, options, said) => {
    const message = goOn(
      (params) => momentum(params, usual),
      (params) => momentum(params, options),
    );
    expect(message).toContain(said);
  });

  it('names other stages at the first batch', () => {
    const message = goOn(
      (params) => pipe(stages, momentum(params, usual)),
      (params) => pipe(clipByGlobalNorm(2), momentum(params, usual)),
    );
    expect(message).toContain('clipByGlobalNorm(1) → clipByValue({"*":2,"a":0.5}), and are clipByGlobalNorm(2)');
  });

  it('names another optimizer', () => {
    const message = goOn(
      (params) => momentum(params, usual),
      (params) => sgd(params, { lr: 0.1 }),
    );
    expect(message).toContain('of Momentum, the scan of SGD');
  });

  it('lets what changes no bit differ', () => {
    const same = goOn(
      (params) => momentum(params, usual),
      (params) => momentum(params, { ...usual, threads: 0, maxRejectionsInARow: 3, rejections: {} }),
    );
    expect(same).not.toEqual(expect.any(String));
  });
});
