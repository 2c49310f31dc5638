import { readFileSync } from 'node:fs';
import { type ScheduleConfig, schedule } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { camelCase } from '../optimizers/golden.ts';

interface GoldenSchedule {
  readonly scheduler: { readonly type: string; readonly base_lr: number };
  readonly oracle: string;
  readonly lrs: readonly number[];
  readonly metrics?: readonly number[];
}

const recorded: GoldenSchedule[] = JSON.parse(readFileSync(new URL('../golden/schedulers.json', import.meta.url), 'utf8'));

/**
 * Recorded in float32, where 1 + cos x loses its digits as x nears π: 1.1e-6, 1.2e-6 and 2.1e-6 beside the formula at these
 * ticks. They are held to that rounding, and the formula's own value to the digits that 40-digit arithmetic gives.
 */
const roundedByTheOracle: Readonly<Record<string, Readonly<Record<number, number>>>> = {
  WarmupCosineSchedule: { 27: 0.015023785196846487, 28: 0.007001352344045771, 29: 0.0021323204498769734 },
};

describe('recorded schedules', () => {
  it('are of all seventeen types', () => {
    expect(recorded).toHaveLength(21);
    expect(new Set(recorded.map(({ scheduler }) => scheduler.type)).size).toBe(17);
  });

  it.each(recorded)('of $oracle agree with $scheduler', ({ scheduler, lrs, metrics = [] }) => {
    const rate = schedule(camelCase(scheduler) as ScheduleConfig);
    for (const [tick, expected] of lrs.entries()) {
      const exact = roundedByTheOracle[scheduler.type]?.[tick];
      const allowed = exact === undefined ? 1e-6 * expected : 2 ** -24 * scheduler.base_lr;
      expect(Math.abs(rate.lr - expected), `after ${tick} ticks`).toBeLessThanOrEqual(allowed);
      if (exact !== undefined) expect(Math.abs(rate.lr - exact) / exact, `after ${tick} ticks`).toBeLessThanOrEqual(1e-12);
      rate.tick(metrics[tick]);
    }
  });
});
