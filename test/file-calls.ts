import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { onTestFinished } from 'vitest';

/** Until the test has finished, code that imports these functions of `node:fs/promises` calls others. Returns the true ones. */
export function withCalls(calls: Partial<typeof promises>): typeof promises {
  const before = { ...promises };
  Object.assign(promises, calls);
  syncBuiltinESMExports();
  onTestFinished(() => {
    Object.assign(promises, before);
    syncBuiltinESMExports();
  });
  return before;
}
