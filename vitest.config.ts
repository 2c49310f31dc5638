import { defineConfig } from 'vitest/config';

const shared = {
  resolve: { alias: { rxgrad: new URL('./src/index.ts', import.meta.url).pathname } },
};

export default defineConfig({
  test: {
    reporters: ['default', './test/broker/not-run-reporter.ts'],
    projects: [
      {
        ...shared,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.integration.test.ts'],
          testTimeout: 30_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'integration',
          include: ['test/**/*.integration.test.ts'],
          globalSetup: './test/broker/global-setup.ts',
          // kafkajs sets timers in the past, which Node reports once a process.
          execArgv: ['--disable-warning=TimeoutNegativeWarning'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
