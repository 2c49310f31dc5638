import { bceOf, crossEntropyOf, softmaxSum } from './losses.ts';

/**
 * A loss, averaged over the batch, of `classes` logits an event. It writes its gradient over the logits: they are not needed
 * any more. Sums run in the order of the events.
 */
export type LossGradient = (logits: Float32Array, labels: ArrayLike<number | bigint>, classes: number) => number;

/** Binary cross-entropy of logits z and labels y from 0 to 1: mean of max(z, 0) − z·y + ln(1 + e^−|z|), gradient (σ(z) − y) / n. */
export const bceWithLogits: LossGradient = (logits, labels) => {
  let loss = 0;
  for (let i = 0; i < logits.length; i++) {
    const z = logits[i]!;
    const y = Number(labels[i]);
    loss += bceOf(z, y);
    logits[i] = (1 / (1 + Math.exp(-z)) - y) / logits.length;
  }
  return Math.fround(loss / logits.length);
};

/** Cross-entropy of the softmax of logits z and the class c: mean of ln Σ e^z − z_c, gradient (softmax(z) − onehot(c)) / n. */
export const crossEntropy: LossGradient = (logits, labels, classes) => {
  const events = logits.length / classes;
  let loss = 0;
  for (let event = 0; event < events; event++) {
    const z = logits.subarray(event * classes, (event + 1) * classes);
    const label = Number(labels[event]);
    const softmax = softmaxSum(z);
    loss += crossEntropyOf(z, label, softmax);
    const { largest, sum } = softmax;
    for (let c = 0; c < classes; c++) z[c] = (Math.exp(z[c]! - largest) / sum - (c === label ? 1 : 0)) / events;
  }
  return Math.fround(loss / events);
};

export const lossGradients = { bceWithLogits, crossEntropy } as const;
/** The losses by name. */
export type Loss = keyof typeof lossGradients;
