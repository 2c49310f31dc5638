import { beforeAll } from 'vitest';

declare global {
  var __stryker__: { activeMutant?: string } | undefined;
}

/** Stryker tells the tests' thread which mutant is active; threads and processes that tests start learn it here. */
beforeAll(() => {
  const active = globalThis.__stryker__?.activeMutant;
  if (active === undefined) delete process.env.__STRYKER_ACTIVE_MUTANT__;
  else process.env.__STRYKER_ACTIVE_MUTANT__ = active;
});
