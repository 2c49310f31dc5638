import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const root = new URL('../', import.meta.url).pathname;

/** The first test that fails ends a mutant's run: short files go first. */
class ShortestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const took = (file: TestSpecification): number => this.ctx.cache.getTestSpecificationResult(file)?.duration ?? 0;
    return [...files].sort((a, b) => took(a) - took(b));
  }
}

/** Unit tests of the folder that is mutated, which main.ts names. */
export default defineConfig({
  root,
  resolve: {
    alias: [
      { find: 'rxgrad', replacement: `${root}src/index.ts` },
      { find: /^fast-check$/, replacement: `${root}mutation/few-runs.ts` },
    ],
  },
  test: {
    include: (process.env.RXGRAD_MUTATION_TESTS ?? '')
      .split(',')
      .map((tests) => (tests.endsWith('.ts') ? tests : `${tests}/*.test.ts`)),
    // The last two take seconds of readers and random programs; a run may need hundreds of them.
    exclude: ['**/*.integration.test.ts', '**/torn-reads.test.ts', '**/everything.test.ts'],
    // One worker for all files of a run: each mutant needs the modules once.
    isolate: false,
    setupFiles: ['mutation/active-in-threads.ts'],
    sequence: { sequencer: ShortestFirst },
    expect: { poll: { timeout: 20_000, interval: 5 } },
    // A mutant that hangs is ended by Stryker, sooner.
    testTimeout: 60_000,
  },
});
