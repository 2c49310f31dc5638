import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type SeaEvent, type SeaOptions, sea, seaAbruptDrift } from '../../../pipelines/streams/sea.ts';

interface Golden {
  cases: (Required<SeaOptions> & { sha256: string; first: SeaEvent[]; positives: number })[];
  abruptDrift: { eventsPerConcept: number; noise: number; seed: number; sha256: string };
}

const golden: Golden = JSON.parse(readFileSync(new URL('../../golden/sea.json', import.meta.url), 'utf8'));

function take(options: SeaOptions, count: number): SeaEvent[] {
  const events = sea(options);
  return Array.from({ length: count }, () => events.next().value);
}

function digest(events: Iterable<SeaEvent>): string {
  const hash = createHash('sha256');
  for (const { x, y } of events) hash.update(new Float64Array(x)).update(Uint8Array.of(y));
  return hash.digest('hex');
}

describe('sea', () => {
  it.each(golden.cases)(
    'gives the events of river: variant $variant, noise $noise, seed $seed',
    ({ first, positives, sha256, ...options }) => {
      const events = take(options, 1000);
      expect(events.slice(0, first.length)).toEqual(first);
      expect(events.filter(({ y }) => y === 1)).toHaveLength(positives);
      expect(digest(events)).toBe(sha256);
    },
  );

  it('begins anew with each call', () => {
    expect(take({ seed: 7 }, 3)).toEqual(take({ seed: 7 }, 3));
  });

  it.each([
    [{ seed: -1 }, /seed: expected an integer/],
    [{ seed: 2 ** 32 }, /seed: expected an integer/],
    [{ seed: 1.5 }, /seed: expected an integer/],
    [{ seed: 1, noise: Number.NaN }, /noise: expected a share from 0 to 1, got NaN/],
    [{ seed: 1, noise: 1.1 }, /noise: expected a share from 0 to 1, got 1.1/],
    [{ seed: 1, variant: 4 as 3 }, /variant: expected 0, 1, 2 or 3, got 4/],
  ])('refuses %j at the call', (options, message) => {
    expect(() => sea(options)).toThrow(message);
  });
});

describe('seaAbruptDrift', () => {
  it('gives the four concepts of river in turn, each with the next seed', () => {
    const { sha256, ...options } = golden.abruptDrift;
    const events = [...seaAbruptDrift(options)];
    expect(events).toHaveLength(4 * options.eventsPerConcept);
    expect(digest(events)).toBe(sha256);
  });

  it('has 50,000 events by default, a tenth of them with a flipped label', () => {
    const thresholds = [8, 9, 7, 9.5];
    let count = 0;
    let flipped = 0;
    for (const { x, y } of seaAbruptDrift()) {
      const threshold = thresholds[Math.floor(count / 12_500)]!;
      if ((x[0] + x[1] > threshold ? 1 : 0) !== y) flipped++;
      count++;
    }
    expect(count).toBe(50_000);
    expect(flipped / count).toBeCloseTo(0.1, 2);
  });
});
