import { parseDictionary } from 'structured-headers';
import type { GradientFacts } from '../events.ts';

type NumberFact = 'base' | 'batchSize' | 'epoch' | 'norm' | 'loss';

const factOf: Readonly<Record<string, NumberFact>> = {
  base: 'base',
  batch: 'batchSize',
  epoch: 'epoch',
  norm: 'norm',
  loss: 'loss',
};
const wholeNumbers: ReadonlySet<NumberFact> = new Set(['base', 'batchSize', 'epoch']);
// As JavaScript writes numbers: at most 21 digits before the point and 22 behind it (RFC 9651, section 4.2.4: 12 and 3).
const plainMember = /[ \t]*([a-z*][a-z0-9_.*-]*)=(-?\d{1,21}(?:\.\d{1,22})?(?:[eE][+-]?\d{1,3})?)[ \t]*(,|$)/y;

/**
 * Reads the `ce_gradient` header: a dictionary of RFC 9651, as `base=12340, batch=32, epoch=3, norm=1.2345, loss=0.43`.
 * Members that it does not know are left alone. Returns what is wrong as words.
 *
 * Plain numbers, which is all that producers send in practice, are read here at a tenth of the library's time, and with
 * more digits than the RFC's decimals have; everything else goes through the library.
 */
export function parseGradientHeader(text: string): { facts: GradientFacts } | { problem: string } {
  const facts: { [F in NumberFact]?: number } = {};
  plainMember.lastIndex = 0;
  for (;;) {
    const match = plainMember.exec(text);
    if (!match) return parseAny(text);
    const fact = factOf[match[1]!];
    if (fact) facts[fact] = Number(match[2]);
    if (match[3] === '') return check(facts);
  }
}

/** Writes what is known of a batch as a `ce_gradient` header, numbers in full. */
export function writeGradientHeader({ base, batchSize, epoch, norm, loss }: GradientFacts): string {
  const members: [string, number | undefined][] = [
    ['base', base],
    ['batch', batchSize],
    ['epoch', epoch],
    ['norm', norm],
    ['loss', loss],
  ];
  return members.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`])).join(', ');
}

function parseAny(text: string): { facts: GradientFacts } | { problem: string } {
  if (text.trim() === '') return { facts: {} };
  const facts: { [F in NumberFact]?: number } = {};
  try {
    for (const [key, [value]] of parseDictionary(text)) {
      const fact = factOf[key];
      if (!fact) continue;
      if (typeof value !== 'number') return { problem: `${key} is no number` };
      facts[fact] = value;
    }
  } catch (error) {
    return { problem: (error as Error).message };
  }
  return check(facts);
}

function check(facts: { readonly [F in NumberFact]?: number }): { facts: GradientFacts } | { problem: string } {
  for (const name in facts) {
    const fact = name as NumberFact;
    const value = facts[fact]!;
    if (!Number.isFinite(value)) return { problem: `${fact} is not finite` };
    if (fact === 'norm' && value < 0) return { problem: 'norm is negative' };
    if (wholeNumbers.has(fact) && !(Number.isSafeInteger(value) && value >= 0)) {
      return { problem: `${fact} is no whole number of at least 0` };
    }
  }
  return { facts };
}
