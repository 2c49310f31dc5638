import { defineConfig } from 'vitest/config';

const shared = {
  resolve: { alias: { rxgrad: new URL('./src/index.ts', import.meta.url).pathname } },
};

// No test measures time by these: they end what stands still, on a machine that does other things as well.
const limits = {
  testTimeout: 300_000,
  hookTimeout: 300_000,
  expect: { requireAssertions: true, poll: { timeout: 90_000, interval: 5 } },
};

const onKafka = {
  ...limits,
  globalSetup: './test/broker/global-setup.ts',
  // kafkajs sets timers in the past, which Node reports once a process.
  execArgv: ['--disable-warning=TimeoutNegativeWarning'],
  fileParallelism: false,
};

export default defineConfig({
  test: {
    reporters: ['default', './test/broker/not-run-reporter.ts'],
    // One for each core; Vitest leaves one free, which is half of two.
    maxWorkers: '100%',
    projects: [
      {
        ...shared,
        test: {
          ...limits,
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.integration.test.ts', 'test/chaos/**'],
        },
      },
      {
        ...shared,
        test: {
          ...onKafka,
          name: 'integration',
          include: ['test/**/*.integration.test.ts'],
          exclude: ['test/chaos/**'],
        },
      },
      {
        ...shared,
        test: { ...onKafka, name: 'chaos', include: ['test/chaos/**/*.test.ts'] },
      },
    ],
  },
});
