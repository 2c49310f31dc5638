// The path of the package's file: its name leads here.
import fc from '../node_modules/fast-check/lib/fast-check.js';

/** fast-check with few runs of each property, always the same: a mutant is worth seconds, and a score has to come again. */
export default {
  ...fc,
  assert: ((property, options) =>
    fc.assert(property, { ...options, seed: 1, numRuns: Math.min(options?.numRuns ?? 100, 10) })) as typeof fc.assert,
};
