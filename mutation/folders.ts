/** What is mutated, and the unit tests that are to notice: paths from the root. */
export interface Folder {
  readonly sources: readonly string[];
  readonly tests: readonly string[];
}

/** Every mutant costs a run of the tests that reach it, so a folder has its own tests and few others. */
export const folders: Readonly<Record<string, Folder>> = {
  shards: folder('shards'),
  gates: folder('gates'),
  params: folder('params'),
  sinks: {
    sources: ['src/sinks/**/*.ts'],
    tests: ['test/sinks/**', 'test/weights/publish-weights.test.ts', 'test/weights/shards.test.ts'],
  },
  checkpoints: folder('checkpoints'),
  weights: folder('weights'),
  // What only a broker covers is left out: src/sources/kafka is the integration tests' part.
  sources: { sources: ['src/sources/*.ts'], tests: ['test/sources/*.test.ts'] },
  inference: {
    sources: [
      'pool',
      'versions',
      'weight-feeds',
      'prediction-queue',
      'batch',
      'staleness-limit',
      'asked',
      'mixes-rows',
      'feeds',
    ].map((name) => `src/inference/${name}.ts`),
    tests: ['batch', 'giving-up', 'pool', 'pool-order', 'staleness-limit', 'versions', 'weight-feeds'].map(
      (name) => `test/inference/${name}.test.ts`,
    ),
  },
  // The scan, not the rules: those are held to the values of their papers and of other implementations.
  optimizers: {
    sources: [
      'average',
      'beforehand',
      'compensation',
      'execution',
      'gradients',
      'groups',
      'optimizer-state',
      'outliers',
      'passes',
      'plan',
      'prologue',
      'rates',
      'recipe',
      'rejections',
      'rule-step',
      'running-median',
      'running-scan',
      'scan-facts',
      'scan-memory',
      'scan',
      'shapes',
      'spread',
      'stepper',
      'weight-history',
      'weights-update',
      'work',
    ].map((name) => `src/optimizers/${name}.ts`),
    // Without those that go through every rule and take minutes together.
    tests: [
      'average',
      'delay-compensation',
      'duplicates',
      'epochs',
      'finite',
      'golden',
      'groups',
      'kept-weights',
      'memory',
      'metrics',
      'misfit-rows',
      'options',
      'outliers',
      'pieces',
      'positions',
      'prologue',
      'reentrancy',
      'rejections',
      'running-median',
      'scan',
      'scan-facts',
      'shards',
      'threads',
      'waiting-for-readers',
    ].map((name) => `test/optimizers/${name}.test.ts`),
  },
};

function folder(name: string): Folder {
  return { sources: [`src/${name}/**/*.ts`], tests: [`test/${name}/**`] };
}
