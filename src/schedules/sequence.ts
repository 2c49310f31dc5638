import { expectOption } from '../options.ts';
import { combinedSchedule } from './combined-schedule.ts';
import { passed } from './passed.ts';
import type { Schedule } from './schedule.ts';

/** One part after the other: each milestone begins the next, at its own tick 0. The others stand still. */
export function sequence(parts: readonly Schedule[], milestones: readonly number[]): Schedule {
  const expected = `${parts.length - 1} of them, one fewer than schedulers`;
  expectOption(milestones.length === parts.length - 1, 'sequentialLR: milestones', expected, milestones.length);
  return combinedSchedule(parts, {
    config: { type: 'SequentialLR', milestones },
    lr: (parts, ticks) => parts[passed(milestones, ticks)]!.lr,
    tick(parts, ticks, metric) {
      // At a milestone it is the last part's epoch that ends, and the next part's first that begins.
      if (!milestones.includes(ticks)) parts[passed(milestones, ticks)]!.tick(metric);
    },
  });
}
