import { readFileSync } from 'node:fs';
import { type ScheduleConfig, schedule, stepLR } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { camelCase } from '../optimizers/golden.ts';

interface GoldenSchedule {
  scheduler: Record<string, unknown>;
  lrs: number[];
}

const recorded = (
  JSON.parse(readFileSync(new URL('../golden/schedulers.json', import.meta.url), 'utf8')) as GoldenSchedule[]
).filter(({ scheduler }) => scheduler.type === 'StepLR');

describe('stepLR', () => {
  it('has recorded values', () => {
    expect(recorded).not.toHaveLength(0);
  });

  it.each(recorded)('agrees with braintools over $scheduler', ({ scheduler, lrs }) => {
    const rate = schedule(camelCase(scheduler) as ScheduleConfig);
    for (const [tick, expected] of lrs.entries()) {
      expect(Math.abs(rate.lr - expected) / expected, `after ${tick} ticks`).toBeLessThanOrEqual(1e-6);
      rate.tick();
    }
  });

  it('goes on from its state', () => {
    const rate = stepLR({ baseLr: 0.1, stepSize: 2, gamma: 0.5 });
    for (let i = 0; i < 5; i++) rate.tick();
    const resumed = stepLR({ baseLr: 0.1, stepSize: 2, gamma: 0.5 });
    resumed.restore(rate.state());
    expect(resumed.lr).toBe(rate.lr);
    resumed.tick();
    expect(resumed.lr).toBeCloseTo(0.0125, 12);
  });

  it('starts anew for each user', () => {
    const rate = stepLR({ baseLr: 1, stepSize: 1 });
    rate.tick();
    expect(rate.fresh().lr).toBe(1);
    expect(rate.lr).toBeCloseTo(0.1, 12);
  });

  it.each([
    [{ stepSize: 0 }, 'stepSize'],
    [{ baseLr: -1 }, 'baseLr'],
    [{ gamma: Number.NaN }, 'gamma'],
    [{ step_size: 3 }, 'step_size'],
  ])('refuses %o', (options, name) => {
    expect(() => stepLR(options as object)).toThrow(name);
  });
});
