import { vi } from 'vitest';

/**
 * Waits until an expectation holds, and returns what it returns. How long that takes is up to the machine and its load, so the only
 * limit is one that nothing reaches which works at all.
 */
export function eventually<T>(expectation: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(expectation, { timeout: 90_000, interval: 5 });
}
