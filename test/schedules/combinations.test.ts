import {
  chainedScheduler,
  constantLR,
  exponentialLR,
  type LearningRate,
  linearLR,
  oneCycleLR,
  reduceLROnPlateau,
  type Schedule,
  schedule,
  sequentialLR,
  stepLR,
  warmupScheduler,
} from 'rxgrad';
import { describe, expect, it } from 'vitest';

function rates(rate: Schedule, ticks: number): number[] {
  return Array.from({ length: ticks }, () => {
    const { lr } = rate;
    rate.tick();
    return lr;
  });
}

const halving = { type: 'StepLR', baseLr: 0.5, stepSize: 2, gamma: 0.5 } as const;

describe('chainedScheduler', () => {
  it('multiplies factors onto the first base rate', () => {
    const warm = warmupScheduler({ baseLr: 8, warmupEpochs: 4 });
    expect(rates(chainedScheduler({ schedulers: [warm, halving] }), 6)).toEqual([0, 2, 2, 3, 2, 2]);
    expect(rates(chainedScheduler({ schedulers: [halving, warm] }), 6)).toEqual([0, 0.125, 0.125, 0.1875, 0.125, 0.125]);
  });

  it('takes OneCycleLR relative to where it begins', () => {
    const cycle = oneCycleLR({ maxLr: 2, totalSteps: 4, pctStart: 0.5, divFactor: 4 });
    expect(rates(chainedScheduler({ schedulers: [0.1, cycle] }), 2)).toEqual([0.1, 0.4]);
  });

  it('of one is that one', () => {
    expect(rates(chainedScheduler({ schedulers: [{ ...halving, baseLr: 1 }] }), 6)).toEqual([1, 1, 0.5, 0.5, 0.25, 0.25]);
  });

  it('hands the metric to every part', () => {
    const plateau = reduceLROnPlateau({ baseLr: 1, patience: 0, factor: 0.5 });
    const rate = chainedScheduler({ schedulers: [plateau, plateau] });
    for (const metric of [1, 1, 2]) rate.tick(metric);
    expect(rate.lr).toBe(1 / 16);
  });
});

describe('sequentialLR', () => {
  const parts = [linearLR({ baseLr: 1, startFactor: 0.5, totalIters: 2 }), exponentialLR({ baseLr: 8, gamma: 0.5 })];

  it('begins each part at its milestone, from its own tick 0', () => {
    expect(rates(sequentialLR({ schedulers: parts, milestones: [2] }), 5)).toEqual([0.5, 0.75, 8, 4, 2]);
    const three = sequentialLR({ schedulers: [...parts, halving], milestones: [1, 3] });
    expect(rates(three, 8)).toEqual([0.5, 8, 4, 0.5, 0.5, 0.25, 0.25, 0.125]);
  });

  it('has the first base rate', () => {
    expect(sequentialLR({ schedulers: parts.toReversed(), milestones: [2] }).baseLr).toBe(8);
  });

  it('hands the metric to the part whose epoch ends', () => {
    const plateau = reduceLROnPlateau({ baseLr: 1, patience: 0, factor: 0.5 });
    const rate = sequentialLR({ schedulers: [0.3, plateau], milestones: [2] });
    for (const metric of [1, 1, 1]) rate.tick(metric);
    expect(rate.lr).toBe(1);
    rate.tick(1);
    expect(rate.lr).toBe(0.5);
  });
});

describe('parts', () => {
  const combine = { chained: (schedulers: LearningRate[]) => chainedScheduler({ schedulers }), sequential };
  function sequential(schedulers: LearningRate[]): Schedule {
    return sequentialLR({ schedulers, milestones: schedulers.slice(1).map((_, i) => i + 1) });
  }

  it.each(Object.entries(combine))('of %s: a schedule and its config are the same', (_, make) => {
    const made = rates(make([schedule(halving), constantLR()]), 10);
    expect(rates(make([halving, { type: 'ConstantLR' }]), 10)).toEqual(made);
  });

  it.each(Object.entries(combine))('of %s begin anew, and stay what they were outside', (_, make) => {
    const part = stepLR({ baseLr: 1, stepSize: 1 });
    part.tick();
    const rate = make([part, part]);
    expect(rate.lr).toBe(1);
    rates(rate, 5);
    expect(part.state()).toEqual({ ticks: 1 });
  });

  it.each(Object.entries(combine))('of %s have their numbers in one flat record', (_, make) => {
    const rate = make([halving, make([halving, reduceLROnPlateau()])]);
    expect(Object.keys(rate.state()).toSorted()).toEqual([
      '0/ticks',
      '1/0/ticks',
      '1/1/bad',
      '1/1/best',
      '1/1/cooldown',
      '1/1/lr',
      '1/1/ticks',
      '1/ticks',
      'ticks',
    ]);
  });

  it.each(Object.entries(combine))('of %s say which metric they look at, which is one', (_, make) => {
    const plateaus = ['loss', 'loss', 'error'].map((metric) => reduceLROnPlateau({ metric }));
    expect(make([halving, ...plateaus.slice(0, 2), reduceLROnPlateau()]).metric).toBe('loss');
    expect(make([halving, reduceLROnPlateau()]).metric).toBeNull();
    expect(make([halving, halving]).metric).toBeUndefined();
    expect(() => make(plateaus)).toThrow('schedulers: metric: expected "loss" for all, got "error"');
  });
});
