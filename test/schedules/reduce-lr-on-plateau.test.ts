import { reduceLROnPlateau } from 'rxgrad';
import { describe, expect, it } from 'vitest';

type Options = Parameters<typeof reduceLROnPlateau>[0];

/** The rate after each metric. */
function rates(options: Options, metrics: readonly (number | undefined)[]): number[] {
  const rate = reduceLROnPlateau({ baseLr: 1, factor: 0.5, patience: 0, threshold: 0, ...options });
  return metrics.map((metric) => {
    rate.tick(metric);
    return rate.lr;
  });
}

describe('reduceLROnPlateau', () => {
  it.each<[string, Options, readonly (number | undefined)[], readonly number[]]>([
    ['leaves the rate alone while the metric falls', {}, [3, 2, 1], [1, 1, 1]],
    ['lowers it when the metric is no better', {}, [3, 3, 4, 2], [1, 0.5, 0.25, 0.25]],
    ['waits for more than `patience` in a row', { patience: 2 }, [1, 1, 1, 1, 1], [1, 1, 1, 0.5, 0.5]],
    ['counts anew after a better one', { patience: 1 }, [3, 3, 2, 2, 2], [1, 1, 1, 1, 0.5]],
    ['looks for more in mode max', { mode: 'max' }, [1, 2, 2, 3], [1, 1, 0.5, 0.5]],
    ['asks for a share of the best', { threshold: 0.1 }, [10, 9.1, 8.9, 8.1], [1, 0.5, 0.5, 0.25]],
    ['asks for a share of the best upwards', { mode: 'max', threshold: 0.1 }, [10, 10.9, 11.1], [1, 0.5, 0.5]],
    ['asks for an amount', { threshold: 0.5, thresholdMode: 'abs' }, [10, 9.6, 9.4, 9], [1, 0.5, 0.5, 0.25]],
    ['passes over metrics while it cools down', { cooldown: 2 }, [3, 3, 1, 9, 2, 2], [1, 0.5, 0.5, 0.5, 0.5, 0.25]],
    ['goes no lower than minLr', { minLr: 0.3 }, [1, 1, 1, 1], [1, 0.5, 0.3, 0.3]],
    ['spares itself small changes', { eps: 0.3 }, [1, 1, 1, 1], [1, 0.5, 0.5, 0.5]],
    ['does nothing in a tick without a metric', { patience: 1 }, [1, undefined, 1, undefined, 1], [1, 1, 1, 1, 0.5]],
    ['takes what is not finite for no better', {}, [Number.NEGATIVE_INFINITY, Number.NaN, 1], [0.5, 0.25, 0.25]],
    ['follows metrics below 0 in amounts', { thresholdMode: 'abs', threshold: 0.5 }, [-1, -2, -2.1], [1, 1, 0.5]],
  ])('%s', (_, options, metrics, expected) => {
    expect(rates(options, metrics)).toEqual(expected);
  });

  it('has a patience of ten and a factor of a tenth by default', () => {
    const rate = reduceLROnPlateau();
    for (let i = 0; i < 11; i++) rate.tick(1);
    expect(rate.lr).toBe(1e-3);
    rate.tick(1);
    expect(rate.lr).toBeCloseTo(1e-4, 15);
  });

  it('counts ticks without a metric', () => {
    const rate = reduceLROnPlateau();
    const before = rate.state();
    rate.tick();
    expect(rate.state()).toEqual({ ...before, ticks: 1 });
  });

  it('says which metric it looks at', () => {
    expect(reduceLROnPlateau({ metric: 'loss' }).metric).toBe('loss');
    expect(reduceLROnPlateau().metric).toBeNull();
  });
});
