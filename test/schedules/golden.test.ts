import { readFileSync } from 'node:fs';
import { type ScheduleConfig, schedule } from 'rxgrad';
import { expect, it } from 'vitest';
import { camelCase } from '../optimizers/golden.ts';

interface GoldenSchedule {
  readonly scheduler: { readonly type: string };
  readonly oracle: string;
  readonly lrs: readonly number[];
  readonly metrics?: readonly number[];
}

const recorded: GoldenSchedule[] = JSON.parse(readFileSync(new URL('../golden/schedulers.json', import.meta.url), 'utf8'));

it('has recorded values of all seventeen types', () => {
  expect(recorded).toHaveLength(21);
  expect(new Set(recorded.map(({ scheduler }) => scheduler.type)).size).toBe(17);
});

it.each(recorded)('agrees with $oracle over $scheduler', ({ scheduler, lrs, metrics = [] }) => {
  const rate = schedule(camelCase(scheduler) as ScheduleConfig);
  for (const [tick, expected] of lrs.entries()) {
    expect(Math.abs(rate.lr - expected), `after ${tick} ticks`).toBeLessThanOrEqual(1e-6 * expected);
    rate.tick(metrics[tick]);
  }
});
