import {
  adam,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  epochBoundary,
  GradientBatch,
  gradientBatch,
  momentum,
  momentumNesterov,
  type OptimizerConfig,
  optimizer,
  type Parameters,
  sgd,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import { concatMap, from, map, type OperatorFunction, of, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { configOf, deviation, type GoldenRun, goldenRuns, gradientsOf, parametersOf } from './golden.ts';

type Pipeline = OperatorFunction<TrainingEvent, WeightsUpdate>;
type Between = OperatorFunction<TrainingEvent, TrainingEvent>;

const runs = goldenRuns(['SGD', 'Momentum', 'MomentumNesterov', 'Adam']);
const scans = { SGD: sgd, Momentum: momentum, MomentumNesterov: momentumNesterov, Adam: adam };

/** The chain written out, with any operator between its stages. */
function chain(params: Parameters, config: OptimizerConfig, between: Between = pipe()): Pipeline {
  const { type, weightDecay, gradClipNorm, gradClipValue, ...options } = config;
  return pipe(
    gradClipNorm ? clipByGlobalNorm(gradClipNorm) : pipe(),
    between,
    gradClipValue ? clipByValue(gradClipValue) : pipe(),
    between,
    weightDecay ? addDecayedWeights(weightDecay, params) : pipe(),
    between,
    scans[type](params, options),
  );
}

/** Runs the recorded gradients through a pipeline and returns every float of every version. */
function play(
  run: GoldenRun,
  params: Parameters,
  pipeline: Pipeline,
  after?: (step: number, update: WeightsUpdate) => void,
): number[] {
  const bits: number[] = [];
  let step = 0;
  from(run.steps)
    .pipe(
      concatMap(({ grad, epochEnd }, i) => {
        const batch = gradientBatch({ gradients: gradientsOf(grad) });
        return epochEnd ? of(batch, epochBoundary(i)) : of(batch);
      }),
      pipeline,
    )
    .subscribe((update) => {
      for (const { data } of params) bits.push(...new Uint32Array(data.slice().buffer));
      after?.(step, update);
      step += 1;
    });
  return bits;
}

const materialise: Between = map((event) => (event instanceof GradientBatch ? event.withGradients(event.gradients) : event));

describe('optimizers agree with braintools', () => {
  it('has all recorded runs', () => {
    expect(runs).toHaveLength(70);
  });

  it.each(runs)('$name', (run) => {
    const params = parametersOf(run);
    const bits = play(run, params, optimizer(params, configOf(run)), (step, update) => {
      const { weights, lr } = run.steps[step]!;
      expect(deviation(params, weights), `step ${step}`).toBeLessThanOrEqual(1e-5);
      expect(Math.abs(update.lr - lr) / lr).toBeLessThanOrEqual(1e-6);
      expect(update.version).toBe(step + 1);
    });
    expect(params.version).toBe(run.steps.length);

    const chained = parametersOf(run);
    expect(play(run, chained, chain(chained, configOf(run))), 'chain of stages').toEqual(bits);

    const read = parametersOf(run);
    expect(play(run, read, chain(read, configOf(run), materialise)), 'gradients read between stages').toEqual(bits);
  });
});
