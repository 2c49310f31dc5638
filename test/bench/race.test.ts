import { describe, expect, it } from 'vitest';
import { type Contestant, race, takeTurns, timed } from '../../bench/race.ts';

const ms = 1e6;

/** A contestant that claims to take so long, and writes down how many calls it was asked for. */
function claiming(ns: number, asked: number[]): Contestant {
  return (calls) => {
    asked.push(calls);
    return ns;
  };
}

describe('race', () => {
  it('starts every round with another contestant', async () => {
    const turns: string[] = [];
    const contestant = (name: string): Contestant => {
      return async () => {
        turns.push(name);
        return 50 * ms;
      };
    };
    await race({ a: contestant('a'), b: contestant('b'), c: contestant('c') }, 3);
    expect(turns.slice(3)).toEqual(['a', 'b', 'c', 'b', 'c', 'a', 'c', 'a', 'b']);
  });

  it('warms up for 40 ms, then calls as often as fills 15 ms', async () => {
    const asked: number[] = [];
    const laps = await race({ a: claiming(3 * ms, asked) }, 2);
    expect(asked).toEqual([1, 2, 4, 8, 5, 5]);
    expect(laps).toEqual({ a: [3 * ms, 3 * ms] });
  });

  it('calls as often as it is told to at least', async () => {
    const asked: number[] = [];
    await race({ a: claiming(1000 * ms, asked) }, 1, 4);
    expect(asked).toEqual([1, 4]);
  });

  it('calls at least once, however long that takes', async () => {
    const asked: number[] = [];
    await race({ a: claiming(1000 * ms, asked) }, 1);
    expect(asked).toEqual([1, 1]);
  });
});

describe('takeTurns', () => {
  it('leaves the first round out, and starts each with another contestant', async () => {
    const turns: string[] = [];
    const contestant = (name: string) => async () => turns.push(name);
    const figures = await takeTurns({ a: contestant('a'), b: contestant('b') }, 2);
    expect(turns).toEqual(['a', 'b', 'b', 'a', 'a', 'b']);
    expect(figures).toEqual({ a: [4, 5], b: [3, 6] });
  });
});

describe('timed', () => {
  it('makes as many calls as it is asked for', async () => {
    let count = 0;
    const ns = await timed(() => {
      count += 1;
    })(1000);
    expect(count).toBe(1000);
    expect(ns).toBeGreaterThan(0);
  });

  it('counts what calls have left to be done', async () => {
    const ns = await timed(
      () => {},
      () => new Promise((resolve) => setTimeout(resolve, 20)),
    )(10);
    expect(ns).toBeGreaterThan(1.5 * ms);
  });
});
