import { type Schedule, type ScheduleConfig, schedule } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { scheduleTypes } from '../../src/schedules/from-config.ts';
import { configs } from './parameters.ts';

/** A loss that falls, stalls and falls again. Some ticks bring none. */
function metricAt(tick: number): number | undefined {
  return tick % 9 === 4 ? undefined : 1 / (1 + Math.floor(tick / 25)) + 0.01 * Math.sin(tick);
}

function run(rate: Schedule, from: number, to: number): number[] {
  const rates = [rate.lr];
  for (let tick = from; tick < to; tick++) {
    rate.tick(metricAt(tick));
    rates.push(rate.lr);
  }
  return rates;
}

it('knows every type of schedule', () => {
  expect(new Set(configs.map(({ type }) => type))).toEqual(new Set(Object.keys(scheduleTypes)));
  expect(Object.keys(scheduleTypes)).toHaveLength(17);
});

describe.each(configs)('$type ($#)', (config: ScheduleConfig) => {
  it('moves, stays finite, and is never below 0', () => {
    const rates = run(schedule(config), 0, 500);
    expect(rates).toHaveLength(501);
    expect(rates.filter((rate) => !(Number.isFinite(rate) && rate >= 0))).toEqual([]);
    expect(new Set(rates).size).toBeGreaterThan(1);
  });

  it('gives equal bits for equal ticks', () => {
    expect(run(schedule(config), 0, 100)).toEqual(run(schedule(config), 0, 100));
  });

  it('goes on from its state, which JSON can hold, with equal bits', () => {
    const uninterrupted = run(schedule(config), 0, 100);
    for (const at of [0, 1, 5, 9, 10, 33, 47]) {
      const before = schedule(config);
      run(before, 0, at);
      const resumed = schedule(config);
      run(resumed, 50, 57);
      resumed.restore(JSON.parse(JSON.stringify(before.state())));
      expect(resumed.state()).toEqual(before.state());
      expect(run(resumed, at, 100)).toEqual(uninterrupted.slice(at));
    }
  });

  it('hands out states that later ticks leave alone', () => {
    const rate = schedule(config);
    const state = rate.state();
    const copy = { ...state };
    rate.tick(1);
    expect(state).toEqual(copy);
    expect(rate.state()).not.toEqual(copy);
  });

  it('starts anew and shares nothing', () => {
    const rate = schedule(config);
    run(rate, 0, 40);
    const [lr, state] = [rate.lr, rate.state()];
    const fresh = rate.fresh();
    expect(fresh.state()).toEqual(schedule(config).state());
    expect([fresh.baseLr, fresh.metric]).toEqual([rate.baseLr, rate.metric]);
    expect(run(fresh, 0, 60)).toEqual(run(schedule(config), 0, 60));
    expect([rate.lr, rate.state()]).toEqual([lr, state]);
  });

  it('refuses states that are not its own, and stays as it is', () => {
    const rate = schedule(config);
    run(rate, 0, 12);
    const [lr, state] = [rate.lr, rate.state()];
    for (const name of Object.keys(state)) {
      const { [name]: _, ...lacking } = state;
      expect(() => rate.restore(lacking)).toThrow(`state of the schedule: ${name}: expected a value, got undefined`);
      const wrong = { ...state, [name]: null } as unknown as typeof state;
      expect(() => rate.restore(wrong)).toThrow(`state of the schedule: ${name}: expected number, got null`);
    }
    expect(() => rate.restore({ ...state, more: 1 })).toThrow('state of the schedule: more: expected no such option, got');
    expect([rate.lr, rate.state()]).toEqual([lr, state]);
  });
});
