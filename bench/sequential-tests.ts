import { tests } from '../src/gates/sequential-tests.ts';
import { type Draw, even, inSpells, rare, zeroOne } from '../test/gates/differences.ts';
import { rowOf, type Table } from './report.ts';

const errorRate = 0.05;
const margin = 0.02;
const streams = 2000;
const longest = 3000;
const trials = 201;

/** What looks at some differences after each of them. */
interface Peeked {
  add(difference: number): void;
  isBelow(bound: number): boolean;
}

const contestants: Readonly<Record<string, () => Peeked>> = {
  empiricalBernstein: () => tests.empiricalBernstein({ errorRate, bound: 1, effect: margin }),
  mixtureSprt: () => tests.mixtureSprt({ errorRate, bound: 1, effect: margin }),
  't-test after every example': tTest,
};

/** Means of exactly the margin: the worst that must not be taken for less. */
const atTheMargin: Readonly<Record<string, () => Draw>> = {
  'losses of 0 and 1, 5 % differ': () => zeroOne(0.035, 0.015),
  'losses of 0 and 1, 30 % differ': () => zeroOne(0.16, 0.14),
  'rare losses, 3 %': () => rare(0.03, margin),
  'rare losses, 0.5 %': () => rare(0.005, margin),
  'a narrow range': () => even(margin, 0.1),
  'times of other spread': () => inSpells(margin),
};

const asGood: Readonly<Record<string, Draw>> = {
  'the same on every example': () => 0,
  'as good, 1 % differ': zeroOne(0.005, 0.005),
  'as good, 5 % differ': zeroOne(0.025, 0.025),
  'as good, 20 % differ': zeroOne(0.1, 0.1),
  'two points better, 6 % differ': zeroOne(0.02, 0.04),
};

/** How often tests are wrong that look at every example, and how many examples they need. */
export function sequentialTests(): { readonly tables: Table[]; readonly worst: number } {
  const shares = Object.entries(contestants).flatMap(([test, make]) =>
    Object.entries(atTheMargin).map(([differences, draws]) => ({ test, differences, share: wronglyShown(make, draws) })),
  );
  const needed = Object.entries(contestants)
    .slice(0, 2)
    .flatMap(([test, make]) =>
      Object.entries(asGood).map(([differences, draw]) => rowOf(`${test}: ${differences}`, examplesNeeded(make, draw))),
    );
  return {
    tables: [
      {
        title: `wrong promotions at the margin, of ${streams} streams of ${longest} examples`,
        unit: '%',
        rows: shares.map(({ test, differences, share }) => rowOf(`${test}: ${differences}`, [100 * share])),
      },
      { title: `until a promotion, margin ${margin}`, unit: 'examples', rows: needed },
    ],
    worst: Math.max(...shares.filter(({ test }) => test === 'empiricalBernstein').map(({ share }) => share)),
  };
}

function wronglyShown(make: () => Peeked, draws: () => Draw): number {
  let wrong = 0;
  for (let stream = 0; stream < streams; stream++) {
    const test = make();
    const draw = draws();
    for (let n = 0; n < longest; n++) {
      test.add(draw());
      if (!test.isBelow(margin)) continue;
      wrong += 1;
      break;
    }
  }
  return wrong / streams;
}

function examplesNeeded(make: () => Peeked, draw: Draw): number[] {
  return Array.from({ length: trials }, () => {
    const test = make();
    let count = 0;
    do {
      test.add(draw());
      count += 1;
    } while (!test.isBelow(margin) && count < 50_000);
    return count;
  });
}

/** What is right for a number of examples that was fixed before, from 30 on. */
function tTest(): Peeked {
  let [count, mean, scatter] = [0, 0, 0];
  return {
    add(difference) {
      count += 1;
      const away = difference - mean;
      mean += away / count;
      scatter += away * (difference - mean);
    },
    isBelow(bound) {
      const error = Math.sqrt(scatter / (count - 1) / count);
      return count >= 30 && error > 0 && (bound - mean) / error > 1.645;
    },
  };
}
