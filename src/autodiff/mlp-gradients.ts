import { RxgradError } from '../errors.ts';
import { type Loss, lossGradients } from './loss-gradients.ts';
import type { MlpLayer, MlpPlan } from './mlp-plan.ts';

/** Where the current weights are found by name. `Parameters` is one. */
export interface Weights {
  get(name: string): { readonly data: Float32Array };
}

/** A batch of features: `dims` is [events, features]. */
export interface Feed {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

/** For `bceWithLogits` a value from 0 to 1 for each logit, for `crossEntropy` the number of a class for each event. */
export type Labels = ArrayLike<number | bigint>;

export interface MlpGradientsOptions {
  readonly loss: Loss;
  /** Is asked for the weights at every run, so that a run always sees the latest version. */
  readonly params: Weights;
}

export interface LossAndGradients {
  /** Mean over the batch. */
  readonly loss: number;
  /** By initializer name; lent until the next run. */
  readonly gradients: Readonly<Record<string, Float32Array>>;
}

export interface MlpGradients {
  run(feeds: Readonly<Record<string, Feed>>, labels: Labels): LossAndGradients;
}

/**
 * Gives the gradients of a perceptron's loss: y = W·x + b and max(y, 0) forwards, the chain rule backwards. Results are
 * float32; each sum runs in float64 in a fixed order, so the same batch gives the same bits.
 *
 * @example
 * const session = mlpGradients(mlpPlan(readModel(path)), { loss: 'bceWithLogits', params });
 * const { loss, gradients } = session.run({ x: { data: features, dims: [32, 3] } }, labels);
 */
export function mlpGradients(plan: MlpPlan, { loss, params }: MlpGradientsOptions): MlpGradients {
  const { layers } = plan;
  const classes = layers.at(-1)!.outputs;
  const gradients = Object.fromEntries(
    layers.flatMap(({ weight, bias, inputs, outputs }) => [
      [weight, new Float32Array(inputs * outputs)],
      [bias, new Float32Array(outputs)],
    ]),
  );
  let capacity = 0;
  let buffers: Float32Array[] = [];

  /** Lends an array of [events, outputs] for each layer: its outputs forwards, and their gradient backwards. */
  function outputsFor(events: number): Float32Array[] {
    if (events > capacity) {
      capacity = events;
      buffers = layers.map(({ outputs }) => new Float32Array(events * outputs));
    }
    return buffers.map((buffer, i) => buffer.subarray(0, events * layers[i]!.outputs));
  }

  return {
    run(feeds, labels) {
      const x = checkedFeed(plan, feeds);
      const events = x.dims[0]!;
      checkLabels(plan, loss, labels, events, classes);

      const outputs = outputsFor(events);
      const inputOf = (layer: number) => (layer === 0 ? x.data : outputs[layer - 1]!);
      layers.forEach((layer, i) => {
        forward(layer, params, inputOf(i), outputs[i]!, events);
      });
      const value = lossGradients[loss](outputs.at(-1)!, labels, classes);
      for (let i = layers.length - 1; i >= 0; i--) {
        const layer = layers[i]!;
        weightGradient(layer, gradients, inputOf(i), outputs[i]!, events);
        if (i > 0) inputGradient(layer, params, layers[i - 1]!.relu, outputs[i - 1]!, outputs[i]!, events);
      }
      return { loss: value, gradients };
    },
  };
}

/** y = x·Wᵀ + b, then max(y, 0) where the layer has a ReLU. */
function forward(layer: MlpLayer, params: Weights, x: Float32Array, y: Float32Array, events: number): void {
  const { inputs, outputs, relu } = layer;
  const weight = params.get(layer.weight).data;
  const bias = params.get(layer.bias).data;
  for (let event = 0; event < events; event++) {
    for (let o = 0; o < outputs; o++) {
      let sum = bias[o]!;
      for (let i = 0; i < inputs; i++) sum += x[event * inputs + i]! * weight[indexOf(layer, o, i)]!;
      y[event * outputs + o] = relu ? Math.max(sum, 0) : sum;
    }
  }
}

/** dW = dyᵀ·x and db = the sum of dy over the batch. */
function weightGradient(
  layer: MlpLayer,
  gradients: Record<string, Float32Array>,
  x: Float32Array,
  dy: Float32Array,
  events: number,
): void {
  const { inputs, outputs } = layer;
  const weight = gradients[layer.weight]!;
  const bias = gradients[layer.bias]!;
  for (let o = 0; o < outputs; o++) {
    let sum = 0;
    for (let event = 0; event < events; event++) sum += dy[event * outputs + o]!;
    bias[o] = sum;
    for (let i = 0; i < inputs; i++) {
      sum = 0;
      for (let event = 0; event < events; event++) sum += dy[event * outputs + o]! * x[event * inputs + i]!;
      weight[indexOf(layer, o, i)] = sum;
    }
  }
}

/** dx = dy·W, and 0 where a ReLU made x 0; it is written over x, which is not needed any more. */
function inputGradient(
  layer: MlpLayer,
  params: Weights,
  afterRelu: boolean,
  x: Float32Array,
  dy: Float32Array,
  events: number,
): void {
  const { inputs, outputs } = layer;
  const weight = params.get(layer.weight).data;
  for (let event = 0; event < events; event++) {
    for (let i = 0; i < inputs; i++) {
      let sum = 0;
      for (let o = 0; o < outputs; o++) sum += dy[event * outputs + o]! * weight[indexOf(layer, o, i)]!;
      const at = event * inputs + i;
      x[at] = afterRelu && x[at]! <= 0 ? 0 : sum;
    }
  }
}

function indexOf({ transB, inputs, outputs }: MlpLayer, output: number, input: number): number {
  return transB ? output * inputs + input : input * outputs + output;
}

function checkedFeed({ model, input, layers }: MlpPlan, feeds: Readonly<Record<string, Feed>>): Feed {
  const feed = feeds[input];
  const features = layers[0]!.inputs;
  const [events = 0, width] = feed?.dims ?? [];
  const fits = feed?.dims.length === 2 && events > 0 && width === features && feed.data.length === events * features;
  if (fits) return feed;
  const got = feed ? `dims [${feed.dims.join(', ')}] with ${feed.data.length} values` : 'none';
  throw new RxgradError('invalidFeed', { model, input, expected: `with dims [events, ${features}]`, got });
}

function checkLabels({ model }: MlpPlan, loss: Loss, labels: Labels, events: number, classes: number): void {
  const fail = (expected: string, got: string): never => {
    throw new RxgradError('invalidFeed', { model, input: 'labels', expected, got });
  };
  const [count, fits, kind] =
    loss === 'crossEntropy'
      ? ([events, (y: number) => Number.isInteger(y) && y >= 0 && y < classes, `classes from 0 to ${classes - 1}`] as const)
      : ([events * classes, (y: number) => y >= 0 && y <= 1, 'values from 0 to 1'] as const);
  if (labels.length !== count) fail(`with ${count} labels`, `${labels.length}`);
  for (let i = 0; i < count; i++) if (!fits(Number(labels[i]))) fail(`with ${kind}`, `${labels[i]} at ${i}`);
}
