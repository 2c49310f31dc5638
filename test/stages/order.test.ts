import fc from 'fast-check';
import {
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  GradientBatch,
  gradientBatch,
  momentum,
  Parameters,
  sgd,
  type TrainingEvent,
} from 'rxgrad';
import { from, map, type OperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bitsOf, wave } from './gradients.ts';

type Stage = OperatorFunction<TrainingEvent, TrainingEvent>;
type Link = { readonly op: 'norm' | 'value' | 'decay'; readonly argument: number; readonly readBefore: boolean };

const link: fc.Arbitrary<Link> = fc.record({
  op: fc.constantFrom('norm', 'value', 'decay'),
  argument: fc.double({ min: 1e-3, max: 2, noNaN: true }),
  readBefore: fc.boolean(),
});
const chain = fc.record({ links: fc.array(link, { maxLength: 5 }), readLast: fc.boolean() });
const shapes = fc.constantFrom<number[][][]>(
  [[1]],
  [[3], [1, 5]],
  [[2, 2], [7], [1]],
  [[16_383]],
  [[16_384], [3]],
  [[5], [16_385]],
  [[200, 200]],
);

const read: Stage = map((event) => (event instanceof GradientBatch ? event.withGradients(event.gradients) : event));

function stageOf({ op, argument }: Link, params: Parameters): Stage {
  if (op === 'norm') return clipByGlobalNorm(argument);
  return op === 'value' ? clipByValue(argument) : addDecayedWeights(argument, params);
}

function parametersOf(dims: readonly number[][]): Parameters {
  const data = (i: number, shape: readonly number[]) =>
    wave(
      shape.reduce((a, b) => a * b, 1),
      i,
    );
  return Parameters.create(Object.fromEntries(dims.map((shape, i) => [`w${i}`, { dims: shape, data: data(i, shape) }])));
}

/** Every bit of the weights after a few steps. */
function play(dims: readonly number[][], scan: typeof momentum, stages: (params: Parameters) => Stage[]): Uint32Array[] {
  const params = parametersOf(dims);
  const batches = [0, 1, 2].map((step) =>
    gradientBatch({
      gradients: Object.fromEntries([...params].map(({ name, length }, i) => [name, wave(length, 10 * step + i)])),
    }),
  );
  const events$ = stages(params).reduce((events, stage) => events.pipe(stage), from<TrainingEvent[]>(batches));
  let steps = 0;
  events$.pipe(scan(params, { lr: 0.1 })).subscribe(() => {
    steps += 1;
  });
  expect(steps).toBe(3);
  return [...params].map(({ data }) => bitsOf(data));
}

describe.each([
  ['momentum', momentum],
  ['sgd', sgd],
] as const)('stages before %s', (_, scan) => {
  it('give equal bits in any order, fused or read in between', () => {
    fc.assert(
      fc.property(shapes, chain, (dims, { links, readLast }) => {
        const lazy = play(dims, scan, (params) => links.map((each) => stageOf(each, params)));
        const eager = play(dims, scan, (params) => [
          ...links.flatMap((each) => (each.readBefore ? [read, stageOf(each, params)] : [stageOf(each, params)])),
          ...(readLast ? [read] : []),
        ]);
        expect(eager).toEqual(lazy);
      }),
      { numRuns: 150 },
    );
  });

  it('do not depend on how they are grouped', () => {
    const apart = play([[3], [5]], scan, () => [clipByGlobalNorm(1), clipByValue(0.3), addDecayedWeights(0.1)]);
    const grouped = play([[3], [5]], scan, () => [
      (events$) => events$.pipe(clipByGlobalNorm(1), (clipped$) => clipped$.pipe(clipByValue(0.3), addDecayedWeights(0.1))),
    ]);
    expect(grouped).toEqual(apart);
  });
});
