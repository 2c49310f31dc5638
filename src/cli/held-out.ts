import { pathToFileURL } from 'node:url';
import { Tensor } from 'onnxruntime-node';
import { bceWithLogits, crossEntropy } from '../autodiff/loss-gradients.ts';
import { RxgradError } from '../errors.ts';
import { HotSwapSession } from '../inference/hot-swap-session.ts';
import type { Parameters } from '../params/parameters.ts';
import { readTensorFile } from '../params/tensor-file.ts';

/** A number that says how good some parameters are. */
export type Metric = (params: Parameters) => Promise<number>;

/** How outputs of a model compare with labels: `classes` numbers an example. */
type Comparison = (outputs: Float32Array, labels: Float32Array, classes: number) => number;

const comparisons: Readonly<Record<string, Comparison>> = {
  loss: (logits, labels, classes) => (classes === 1 ? bceWithLogits : crossEntropy)(logits.slice(), labels, classes),
  accuracy(logits, labels, classes) {
    let right = 0;
    for (const [i, label] of labels.entries()) right += guess(logits.subarray(i * classes, (i + 1) * classes)) === label ? 1 : 0;
    return right / labels.length;
  },
  mse: (outputs, labels) => outputs.reduce((sum, output, i) => sum + (output - labels[i]!) ** 2, 0) / outputs.length,
};

/** The metrics that need no module. */
export const metricNames = Object.keys(comparisons);

/**
 * Makes a metric of its name (over a model, and examples as safetensors: the model's inputs by name, and `labels`), or of a module that
 * exports `metric(params)`.
 */
export async function metricOf(name: string, model: string | undefined, examples: string | undefined): Promise<Metric> {
  const comparison = comparisons[name];
  if (!comparison) return fromModule(name);
  if (model === undefined || examples === undefined) {
    throw new RxgradError('invalidOption', {
      option: '--metric',
      expected: `--model and --examples with ${name}`,
      got: 'not both',
    });
  }
  const { tensors } = readTensorFile(examples);
  const labels = tensors.get('labels');
  if (!labels)
    throw new RxgradError('invalidCheckpoint', {
      where: examples,
      expected: 'a tensor "labels"',
      got: [...tensors.keys()].join(),
    });
  return async (params) => {
    const session = await HotSwapSession.load(model, params);
    try {
      const feeds = Object.fromEntries(
        session.inputs.map(({ name, type }) => {
          const tensor = tensors.get(name);
          if (tensor)
            return [name, new Tensor(type as 'float32', numbersOf(type, tensor.data) as Float32Array, [...tensor.dims])];
          throw new RxgradError('invalidFeed', { model, input: name, expected: `in ${examples}`, got: 'nothing' });
        }),
      );
      const { outputs } = await session.predict(feeds);
      const output = outputs[session.outputNames[0]!]!.data as Float32Array;
      return comparison(output, labels.data, output.length / labels.data.length);
    } finally {
      await session.dispose();
    }
  };
}

async function fromModule(file: string): Promise<Metric> {
  const expected = `${metricNames.join(', ')}, or a module that exports metric(params)`;
  const module = (await import(pathToFileURL(file).href).catch((cause: Error) => {
    throw new RxgradError('invalidOption', { option: '--metric', expected, got: `${file} (${cause.message})` }, { cause });
  })) as { metric?: Metric };
  if (typeof module.metric === 'function') return module.metric;
  throw new RxgradError('invalidOption', { option: '--metric', expected, got: file });
}

function guess(logits: Float32Array): number {
  if (logits.length === 1) return logits[0]! > 0 ? 1 : 0;
  return logits.indexOf(logits.reduce((most, logit) => Math.max(most, logit), Number.NEGATIVE_INFINITY));
}

function numbersOf(type: string, data: Float32Array): ArrayBufferView {
  if (type === 'int64') return BigInt64Array.from(data, (value) => BigInt(value));
  if (type === 'int32') return Int32Array.from(data);
  return type === 'bool' ? Uint8Array.from(data) : data;
}
