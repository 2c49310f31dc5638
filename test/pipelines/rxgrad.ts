import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Runs the command line as it was built, and returns what it printed. */
export function rxgrad(...args: string[]): string {
  const flags = ['--disable-warning=ExperimentalWarning'];
  return execFileSync(process.execPath, [...flags, `${root}dist/src/cli/main.js`, ...args], { encoding: 'utf8', stdio: 'pipe' });
}

/** Runs it to where it fails: with one line, that matches. */
export function expectFailure(args: readonly string[], message: RegExp): void {
  let failure: { stderr: string; status: number } | undefined;
  try {
    rxgrad(...args);
  } catch (error) {
    failure = error as { stderr: string; status: number };
  }
  expect(failure?.status).toBe(1);
  expect(failure?.stderr.trim()).toMatch(message);
  expect(failure?.stderr.trim().split('\n')).toHaveLength(1);
}
