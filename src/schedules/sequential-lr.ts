import { type OptionsFor, schedule } from './from-config.ts';
import type { Schedule } from './schedule.ts';

/**
 * Runs schedules one after the other: `milestones[i]` is the tick at which schedulers[i + 1] begins, at its own tick 0. Each
 * may be a schedule, its config, or whatever else serves as a rate; each begins anew.
 *
 * torch.optim.lr_scheduler.SequentialLR.
 *
 * @example
 * const rates = [linearLR({ baseLr: 0.1, totalIters: 5 }), exponentialLR({ baseLr: 0.1, gamma: 0.9 })];
 * sequentialLR({ schedulers: rates, milestones: [5] });
 */
export function sequentialLR(options: OptionsFor<'SequentialLR'>): Schedule {
  return schedule({ ...options, type: 'SequentialLR' });
}
