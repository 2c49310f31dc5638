import { expectOption } from '../options.ts';
import { combinedSchedule } from './combined-schedule.ts';
import type { Schedule } from './schedule.ts';

/** The first part's base rate, times lr / baseLr of every part. All parts tick together. */
export function product(parts: readonly Schedule[]): Schedule {
  for (const [i, { baseLr }] of parts.entries()) {
    expectOption(baseLr > 0, `chainedScheduler: schedulers.${i}: baseLr`, 'a number above 0', baseLr);
  }
  return combinedSchedule(parts, {
    config: { type: 'ChainedScheduler' },
    lr: (parts) => parts.reduce((lr, part) => lr * (part.lr / part.baseLr), parts[0]!.baseLr),
    tick(parts, _, metric) {
      for (const part of parts) part.tick(metric);
    },
  });
}
