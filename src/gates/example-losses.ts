import type { Loss } from '../autodiff/loss-gradients.ts';
import { bceOf, crossEntropyOf } from '../autodiff/losses.ts';
import type { Labels } from '../autodiff/mlp-gradients.ts';
import { RxgradError } from '../errors.ts';

/** What a model made of some examples: a tensor of logits, the examples along its first axis. */
export interface Logits {
  readonly data: ArrayLike<number | bigint | string>;
  readonly dims: readonly number[];
}

/** Losses of some examples, one by one, in their order: averaged over an example's logits where it has several labels. */
export function exampleLosses(loss: Loss, logits: Logits, labels: Labels, where: string): number[] {
  return loss === 'crossEntropy' ? crossEntropies(logits, labels, where) : binaryCrossEntropies(logits, labels, where);
}

function binaryCrossEntropies({ data, dims }: Logits, labels: Labels, where: string): number[] {
  if (labels.length !== data.length) throw misfit(where, `${data.length} labels, one for each logit`, labels.length);
  const examples = dims[0] ?? 1;
  const each = data.length / examples;
  return Array.from({ length: examples }, (_, example) => {
    let sum = 0;
    for (let i = example * each; i < (example + 1) * each; i++) sum += bceOf(Number(data[i]), Number(labels[i]));
    return sum / each;
  });
}

function crossEntropies({ data, dims }: Logits, labels: Labels, where: string): number[] {
  const classes = dims.at(-1) ?? 1;
  const examples = data.length / classes;
  if (labels.length !== examples) throw misfit(where, `${examples} labels, one for each example`, labels.length);
  return Array.from({ length: examples }, (_, example) => {
    const label = Number(labels[example]);
    const isClass = Number.isInteger(label) && label >= 0 && label < classes;
    if (!isClass) throw misfit(where, `classes from 0 to ${classes - 1}`, label);
    const z = Array.from({ length: classes }, (_, c) => Number(data[example * classes + c]));
    return crossEntropyOf(z, label);
  });
}

function misfit(where: string, expected: string, got: number): RxgradError {
  return new RxgradError('invalidFeed', { model: where, input: 'labels', expected, got });
}
