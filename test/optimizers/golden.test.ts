import {
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  epochBoundary,
  GradientBatch,
  gradientBatch,
  optimizer,
  type Parameters,
  type RuleConfig,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import { concatMap, from, map, type OperatorFunction, of, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { ruleTypes } from '../../src/optimizers/rule-types.ts';
import { configOf, deviation, type GoldenRun, goldenRuns, gradientsOf, parametersOf } from './golden.ts';

type Pipeline = OperatorFunction<TrainingEvent, WeightsUpdate>;
type Between = OperatorFunction<TrainingEvent, TrainingEvent>;

/** The chain written out, with any operator between its stages. */
function chain(params: Parameters, config: RuleConfig, between: Between = pipe()): Pipeline {
  const { type, weightDecay, gradClipNorm, gradClipValue, ...options } = config;
  const scan = ruleTypes[type];
  const decaysItself = scan.ownDecay !== undefined;
  return pipe(
    gradClipNorm ? clipByGlobalNorm(gradClipNorm) : pipe(),
    between,
    gradClipValue ? clipByValue(gradClipValue) : pipe(),
    between,
    weightDecay && !decaysItself ? addDecayedWeights(weightDecay, params) : pipe(),
    between,
    (scan as (params: Parameters, options: object) => Pipeline)(
      params,
      decaysItself && weightDecay !== undefined ? { ...options, weightDecay } : options,
    ),
  );
}

/** Runs the recorded gradients through a pipeline and returns every float of every version. */
function play(run: GoldenRun, params: Parameters, pipeline: Pipeline, after?: (update: WeightsUpdate) => void): number[] {
  const bits: number[] = [];
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
      after?.(update);
    });
  return bits;
}

const materialise: Between = map((event) => (event instanceof GradientBatch ? event.withGradients(event.gradients) : event));

describe('optimizers agree with braintools', () => {
  it('has all recorded runs', () => {
    expect(goldenRuns).toHaveLength(91);
  });

  it.each(goldenRuns)('$name', (run) => {
    const params = parametersOf(run);
    const found: { step: number; deviation: number; lr: number }[] = [];
    const bits = play(run, params, optimizer(params, configOf(run)), ({ version, lr }) => {
      const step = run.steps[version - 1]!;
      found.push({ step: version, deviation: deviation(params, step.weights), lr: Math.abs(lr - step.lr) / step.lr });
    });
    expect(found.filter(({ deviation, lr }) => !(deviation <= 1e-5 && lr <= 1e-6))).toEqual([]);
    expect(params.version).toBe(run.steps.length);

    const chained = parametersOf(run);
    expect(play(run, chained, chain(chained, configOf(run))), 'chain of stages').toEqual(bits);

    const read = parametersOf(run);
    expect(play(run, read, chain(read, configOf(run), materialise)), 'gradients read between stages').toEqual(bits);
  });
});
