import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Loss } from '../../src/autodiff/loss-gradients.ts';
import { type Labels, mlpGradients } from '../../src/autodiff/mlp-gradients.ts';
import { type MlpPlan, mlpPlan } from '../../src/autodiff/mlp-plan.ts';
import { readModel } from '../../src/inference/onnx/model.ts';
import { trainableInitializers } from '../../src/inference/onnx/trainable-initializers.ts';

interface Golden {
  loss: Loss;
  inputs: { x: { dims: number[]; data: number[] } };
  labels: { data: number[] };
  value: number;
  gradients: Record<string, { data: number[] }>;
}

const weightsOf = (model: ReturnType<typeof readModel>) =>
  new Map(trainableInitializers(model).map((tensor) => [tensor.name, tensor]));
const paramsOf = (weights: ReadonlyMap<string, { data: Float32Array }>) => ({ get: (name: string) => weights.get(name)! });

function expectClose(got: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  expect(got.length, what).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const delta = Math.abs(got[i]! - expected[i]!);
    expect(delta, `${what}[${i}]: ${got[i]} for ${expected[i]}`).toBeLessThanOrEqual(1e-5 + 1e-4 * Math.abs(expected[i]!));
  }
}

describe('mlpGradients', () => {
  it.each(['mlp', 'logistic'])('agrees with torch on %s', (name) => {
    const path = new URL(`../models/${name}`, import.meta.url).pathname;
    const golden: Golden = JSON.parse(readFileSync(`${path}.json`, 'utf8'));
    const model = readModel(`${path}.onnx`);
    const session = mlpGradients(mlpPlan(model), { loss: golden.loss, params: paramsOf(weightsOf(model)) });
    const { data, dims } = golden.inputs.x;
    const { loss, gradients } = session.run({ x: { data: Float32Array.from(data), dims } }, golden.labels.data);
    expectClose([loss], [golden.value], 'loss');
    expect(Object.keys(gradients).sort()).toEqual(Object.keys(golden.gradients).sort());
    for (const [parameter, { data: expected }] of Object.entries(golden.gradients))
      expectClose(gradients[parameter]!, expected, parameter);
  });

  it('agrees with finite differences in float64', () => {
    fc.assert(
      fc.property(nets, ({ plan, loss, weights, x, events, labels }) => {
        fc.pre(distanceToKink(plan, weights, x, events) > 1e-3);
        const params = paramsOf(new Map([...weights].map(([name, data]) => [name, { data: Float32Array.from(data) }])));
        const feed = { data: Float32Array.from(x), dims: [events, plan.layers[0]!.inputs] };
        const result = mlpGradients(plan, { loss, params }).run({ x: feed }, labels);
        expectClose([result.loss], [lossOf(plan, loss, weights, x, events, labels)], 'loss');
        for (const [name, data] of weights) {
          const expected = data.map((value, i) => {
            const lossAt = (moved: number) =>
              lossOf(plan, loss, new Map(weights).set(name, data.with(i, moved)), x, events, labels);
            return (lossAt(value + 1e-5) - lossAt(value - 1e-5)) / 2e-5;
          });
          expectClose(result.gradients[name]!, expected, name);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('stays finite where logits are extreme', () => {
    const { session } = oneWeight();
    const { loss, gradients } = session.run({ x: { data: Float32Array.of(1000, -1000), dims: [2, 1] } }, [0, 1]);
    expect(loss).toBe(1000);
    expect([...gradients.w!]).toEqual([1000]);
  });

  it('lends its gradients, and a smaller batch after a larger one changes nothing', () => {
    const { session } = oneWeight();
    const first = session.run({ x: { data: Float32Array.of(1, 2, 3), dims: [3, 1] } }, [0, 1, 1]).gradients.w!;
    const small = { x: { data: Float32Array.of(2), dims: [1, 1] } };
    const second = session.run(small, [1]);
    expect(second.gradients.w).toBe(first);
    expect(second).toEqual(oneWeight().session.run(small, [1]));
  });

  it('sees the weights of each run', () => {
    const { session, weights } = oneWeight();
    const feed = { x: { data: Float32Array.of(1), dims: [1, 1] } };
    const before = session.run(feed, [0]).loss;
    weights.set('w', { data: Float32Array.of(-5) });
    expect(session.run(feed, [0]).loss).toBeLessThan(before);
  });

  it.each<[string, Record<string, { data: Float32Array; dims: number[] }>, Labels, RegExp]>([
    ['no feed', {}, [0], /input "x" with dims \[events, 1\], got none/],
    ['another width', { x: { data: new Float32Array(2), dims: [1, 2] } }, [0], /got dims \[1, 2\] with 2 values/],
    ['too little data', { x: { data: new Float32Array(1), dims: [2, 1] } }, [0, 0], /got dims \[2, 1\] with 1 values/],
    ['an empty batch', { x: { data: new Float32Array(0), dims: [0, 1] } }, [], /got dims \[0, 1\]/],
    ['too few labels', { x: { data: new Float32Array(2), dims: [2, 1] } }, [0], /input "labels" with 2 labels, got 1/],
    ['a label beyond 1', { x: { data: new Float32Array(1), dims: [1, 1] } }, [2], /values from 0 to 1, got 2 at 0/],
    ['a label that is NaN', { x: { data: new Float32Array(1), dims: [1, 1] } }, [Number.NaN], /got NaN at 0/],
  ])('refuses %s', (_, feeds, labels, message) => {
    expect(() => oneWeight().session.run(feeds, labels)).toThrow(message);
  });

  it('takes the classes of crossEntropy as int64, and refuses one that does not exist', () => {
    const run = (label: bigint) =>
      oneWeight('crossEntropy').session.run({ x: { data: Float32Array.of(1), dims: [1, 1] } }, BigInt64Array.of(label));
    expect(run(0n).loss).toBe(0);
    expect(() => run(1n)).toThrow(/classes from 0 to 0, got 1 at 0/);
  });
});

function oneWeight(loss: Loss = 'bceWithLogits') {
  const weights = new Map([['w', { data: Float32Array.of(1) }]]).set('b', { data: Float32Array.of(0) });
  const plan: MlpPlan = {
    model: 'one weight',
    input: 'x',
    layers: [{ weight: 'w', bias: 'b', inputs: 1, outputs: 1, transB: true, relu: false }],
  };
  return { weights, session: mlpGradients(plan, { loss, params: paramsOf(weights) }) };
}

interface Net {
  plan: MlpPlan;
  loss: Loss;
  weights: Map<string, number[]>;
  x: number[];
  events: number;
  labels: number[];
}

/** Perceptrons of one to three layers with float32 weights and a batch. */
const nets: fc.Arbitrary<Net> = fc
  .record({
    widths: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 4 }),
    flags: fc.array(fc.record({ transB: fc.boolean(), relu: fc.boolean() }), { minLength: 3, maxLength: 3 }),
    loss: fc.constantFrom<Loss>('bceWithLogits', 'crossEntropy'),
    events: fc.integer({ min: 1, max: 4 }),
  })
  .chain(({ widths, flags, loss, events }) => {
    const layers = widths
      .slice(1)
      .map((outputs, i) => ({ weight: `${i}.w`, bias: `${i}.b`, inputs: widths[i]!, outputs, ...flags[i]! }));
    layers.at(-1)!.relu = false;
    const numbers = (length: number) =>
      fc.array(fc.float({ min: -2, max: 2, noNaN: true }), { minLength: length, maxLength: length });
    const classes = widths.at(-1)!;
    const label = loss === 'crossEntropy' ? fc.integer({ min: 0, max: classes - 1 }) : fc.integer({ min: 0, max: 1 });
    const labelCount = loss === 'crossEntropy' ? events : events * classes;
    return fc.record({
      plan: fc.constant({ model: 'net', input: 'x', layers }),
      loss: fc.constant(loss),
      events: fc.constant(events),
      weights: fc
        .tuple(...layers.flatMap(({ inputs, outputs }) => [numbers(inputs * outputs), numbers(outputs)]))
        .map((data) => new Map(layers.flatMap(({ weight, bias }) => [weight, bias]).map((name, i) => [name, data[i]!]))),
      x: numbers(events * widths[0]!),
      labels: fc.array(label, { minLength: labelCount, maxLength: labelCount }),
    });
  });

/** Every layer's sums before its ReLU, event by event. */
function sumsOf(plan: MlpPlan, weights: Map<string, number[]>, features: number[]): number[][] {
  let x = features;
  return plan.layers.map(({ weight, bias, inputs, outputs, transB, relu }) => {
    const w = weights.get(weight)!;
    const sums = weights
      .get(bias)!
      .map((b, o) => x.reduce((sum, value, i) => sum + value * w[transB ? o * inputs + i : i * outputs + o]!, b));
    x = relu ? sums.map((sum) => Math.max(sum, 0)) : sums;
    return sums;
  });
}

function eventsOf(plan: MlpPlan, x: number[], events: number): number[][] {
  const features = plan.layers[0]!.inputs;
  return Array.from({ length: events }, (_, event) => x.slice(event * features, (event + 1) * features));
}

function distanceToKink(plan: MlpPlan, weights: Map<string, number[]>, x: number[], events: number): number {
  const sums = eventsOf(plan, x, events).flatMap((event) => sumsOf(plan, weights, event).filter((_, i) => plan.layers[i]!.relu));
  return Math.min(...sums.flat().map(Math.abs), Number.POSITIVE_INFINITY);
}

function lossOf(
  plan: MlpPlan,
  loss: Loss,
  weights: Map<string, number[]>,
  x: number[],
  events: number,
  labels: number[],
): number {
  const last = plan.layers.at(-1)!;
  const losses = eventsOf(plan, x, events).flatMap((event, e) => {
    const logits = sumsOf(plan, weights, event)
      .at(-1)!
      .map((sum) => (last.relu ? Math.max(sum, 0) : sum));
    if (loss === 'crossEntropy')
      return [-Math.log(Math.exp(logits[labels[e]!]!) / logits.reduce((sum, z) => sum + Math.exp(z), 0))];
    return logits.map((z, o) => Math.log1p(Math.exp(labels[e * last.outputs + o]! === 1 ? -z : z)));
  });
  return losses.reduce((sum, value) => sum + value, 0) / losses.length;
}
