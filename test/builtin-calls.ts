import files from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { onTestFinished } from 'vitest';

/** Until the test has finished, code that imports these functions of a module of Node.js calls others. Returns the true ones. */
export function withCallsOf<Module extends object>(module: Module, calls: Partial<Module>): Module {
  const before = { ...module };
  Object.assign(module, calls);
  syncBuiltinESMExports();
  onTestFinished(() => {
    Object.assign(module, before);
    syncBuiltinESMExports();
  });
  return before;
}

/** As {@link withCallsOf}, of `node:fs/promises`. */
export function withCalls(calls: Partial<typeof files>): typeof files {
  return withCallsOf(files, calls);
}
