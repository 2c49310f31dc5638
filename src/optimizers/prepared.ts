import { kernel, square } from '../kernels/kernel.ts';
import type { Pass } from './rule.ts';

export const preparedKernel = kernel('prepared', {}, ({ g }) => ({ g }));

/** Leaves the weights as they are, on the side that is written. */
export const copiedKernel = kernel('copied', { prologue: false }, ({ w }) => ({ w }));

export const normsKernel = kernel('norms', {}, ({ w, g }) => ({ g, sums: [square(w), square(g)] }));

/** Leaves the gradient as the prologue makes it, for passes that do without one. */
export const prepared: Pass = { kernel: preparedKernel, scalars: () => ({}) };

/** As {@link prepared}; its sums are the squares of the weights and of the gradient. */
export const norms: Pass = { kernel: normsKernel, scalars: () => ({}) };
