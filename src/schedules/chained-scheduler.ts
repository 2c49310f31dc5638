import { type OptionsFor, schedule } from './from-config.ts';
import type { Schedule } from './schedule.ts';

/**
 * Multiplies schedules that run side by side: schedulers[0].baseLr · ∏ lr / baseLr over all of them. Each may be a schedule,
 * its config, or whatever else serves as a rate; each begins anew.
 *
 * torch.optim.lr_scheduler.ChainedScheduler.
 *
 * @example
 * const warm = warmupScheduler({ baseLr: 0.1, warmupEpochs: 4 });
 * chainedScheduler({ schedulers: [warm, { type: 'StepLR', baseLr: 0.1, stepSize: 6 }] }).lr; // 0
 */
export function chainedScheduler(options: OptionsFor<'ChainedScheduler'>): Schedule {
  return schedule({ ...options, type: 'ChainedScheduler' });
}
