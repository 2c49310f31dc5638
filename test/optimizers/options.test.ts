import {
  adam,
  addDecayedWeights,
  clipByGlobalNorm,
  clipByValue,
  momentum,
  momentumNesterov,
  optimizer,
  Parameters,
  schedule,
  sgd,
  stepLR,
} from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { model } from './batches.ts';

/** What a user without types may write. */
type Loose = (...options: unknown[]) => unknown;
const loose = (call: unknown) => call as Loose;
const params = model();
const built = loose((config: never, options: never) => optimizer(params, config, options));
const [sgdOf, momentumOf, nesterovOf, adamOf] = [sgd, momentum, momentumNesterov, adam].map((scan) =>
  loose((options: never) => scan(params, options)),
) as [Loose, Loose, Loose, Loose];

const refused: [Loose, unknown, string][] = [
  [built, undefined, 'optimizer: expected Object, got undefined'],
  [built, {}, 'optimizer: type: expected a value, got undefined'],
  [built, { type: 'Lyon' }, '| "Lion" |'],
  [built, { type: 'Lyon' }, 'got "Lyon"'],
  [built, { type: 'SGD', weightDecay: -1 }, 'optimizer: weightDecay: expected >=0, got -1'],
  [built, { type: 'SGD', gradClipNorm: 0 }, 'optimizer: gradClipNorm: expected >0, got 0'],
  [built, { type: 'SGD', gradClipValue: '1' }, 'optimizer: gradClipValue: expected number, got "1"'],
  [built, { type: 'Momentum', betas: [0.9, 0.9] }, 'momentum: betas: expected no such option, got "betas"'],
  [built, { type: 'SGD', weight_decay: 1 }, 'sgd: weight_decay: expected no such option, got "weight_decay"'],
  [sgdOf, 5, 'sgd: expected Object, got 5'],
  [sgdOf, { lr: 0 }, 'lr: expected >0, got 0'],
  [sgdOf, { lr: Number.NaN }, 'lr: expected number, got NaN'],
  [sgdOf, { lr: 'fast' }, 'lr: expected a number above 0, a schedule or its config, got fast'],
  [sgdOf, { lr: {} }, 'lr: expected a number above 0, a schedule or its config, got {}'],
  [sgdOf, { lr: null }, 'lr: expected a number above 0, a schedule or its config, got null'],
  [sgdOf, { lr: () => -1 }, 'lr(0): expected >=0, got -1'],
  [sgdOf, { lr: { type: 'StepLR', gamma: 0 } }, 'stepLR: gamma: expected >0, got 0'],
  [sgdOf, { nesterov: 1 }, 'sgd: nesterov: expected boolean, got 1'],
  [sgdOf, { rejections: 5 }, 'sgd: rejections: expected an observer, got 5'],
  [sgdOf, { maxRejectionsInARow: 0 }, 'sgd: maxRejectionsInARow: expected >=1, got 0'],
  [momentumOf, { momentum: 1 }, 'momentum: momentum: expected <1, got 1'],
  [momentumOf, { momentum: -0.1 }, 'momentum: momentum: expected >=0, got -0.1'],
  [nesterovOf, { momentum: '0.9' }, 'momentumNesterov: momentum: expected number, got "0.9"'],
  [adamOf, { betas: [0.9, 1] }, 'adam: betas.1: expected <1, got 1'],
  [adamOf, { eps: 0 }, 'adam: eps: expected >0, got 0'],
  [loose(schedule), {}, 'schedule: type: expected a value, got undefined'],
  [loose(schedule), { type: 'Step' }, 'got "Step"'],
  [loose(stepLR), { stepSize: 1.5 }, 'stepLR: stepSize: expected a whole number, got 1.5'],
  [loose(clipByGlobalNorm), Number.NaN, 'clipByGlobalNorm: expected number, got NaN'],
  [loose(clipByValue), -1, 'clipByValue: expected >0, got -1'],
  [loose(addDecayedWeights), '1e-4', 'addDecayedWeights: expected number, got "1e-4"'],
  [loose(Parameters.create), null, 'Parameters.create: expected Object, got null'],
  [loose(Parameters.create), { w: { dims: [-1] } }, 'Parameters.create: w.dims.0: expected >=0, got -1'],
  [loose(Parameters.create), { w: { dims: [2], data: [1] } }, 'w.data: expected 2 values for dims [2], got 1 values'],
  [loose(Parameters.create), { w: { dims: [1], data: 'x' } }, 'w.data: expected an array of numbers, got "x"'],
];

it.each(refused)('refuses, in words: %# %o', (call, options, message) => {
  expect(() => call(options)).toThrow(
    expect.objectContaining({ code: 'RXGRAD_INVALID_OPTION', message: expect.stringContaining(message) }),
  );
});

describe('defaults', () => {
  it.each([
    ['no options', undefined],
    ['clipping that is switched off', { type: 'SGD', gradClipNorm: null, gradClipValue: undefined }],
  ])('stand in for %s', (_, options) => {
    expect(() => (options ? built(options) : sgdOf(options))).not.toThrow();
  });
});
