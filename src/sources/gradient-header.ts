import { parseDictionary } from 'structured-headers';
import type { GradientFacts } from '../events.ts';

type NumberFact = 'base' | 'batchSize' | 'epoch' | 'norm' | 'loss' | 'incarnation';
type NumberFacts = { [F in NumberFact]: number | undefined };

const factOf: Readonly<Record<string, NumberFact>> = {
  base: 'base',
  batch: 'batchSize',
  epoch: 'epoch',
  norm: 'norm',
  loss: 'loss',
  incarnation: 'incarnation',
};
const members = Object.entries(factOf);
const numberFacts = Object.values(factOf);
/** The least that whole numbers may be. */
const leastOf: { readonly [F in NumberFact]?: number } = { base: 0, batchSize: 1, epoch: 0, incarnation: 0 };
const code = {
  tab: 9,
  space: 32,
  star: 42,
  plus: 43,
  comma: 44,
  minus: 45,
  point: 46,
  zero: 48,
  nine: 57,
  equals: 61,
  underscore: 95,
  a: 97,
  e: 101,
  z: 122,
} as const;
const toLowerCase = 32;
// As JavaScript writes numbers: at most 21 digits before the point and 22 behind it (RFC 9651, section 4.2.4: 12 and 3).
const mostWholeDigits = 21;
const mostDecimals = 22;
const mostExponentDigits = 3;
// A number of so many digits is exact, and so is such a power of ten: their quotient is rounded once, as `Number` does it.
const exactDigits = 15;
const powersOfTen = Array.from({ length: mostDecimals + 1 }, (_, exponent) => Number(`1e${exponent}`));

/**
 * Reads the `ce_gradient` header: a dictionary of RFC 9651, as `base=12340, batch=32, epoch=3, norm=1.2345, loss=0.43, incarnation=7`.
 * Members that it does not know are left alone. Returns what is wrong as words.
 *
 * Plain numbers, which is all that producers send in practice, are read here at a twentieth of the library's time, and with
 * more digits than the RFC's decimals have; everything else goes through the library.
 */
export function parseGradientHeader(text: string): { facts: GradientFacts } | { problem: string } {
  const facts = plainFacts(text);
  return facts ? check(facts) : parseAny(text);
}

/** One shape for all, so that the engine knows where each fact lies. */
function noFacts(): NumberFacts {
  return { base: undefined, batchSize: undefined, epoch: undefined, norm: undefined, loss: undefined, incarnation: undefined };
}

/** The facts of members that all are plain numbers; else null. */
function plainFacts(text: string): NumberFacts | null {
  const facts = noFacts();
  let at = 0;
  for (;;) {
    at = behindBlanks(text, at);
    const key = at;
    while (isOfKey(text.charCodeAt(at), at === key)) at++;
    if (at === key || text.charCodeAt(at) !== code.equals) return null;
    const fact = factAt(text, key, at);
    const from = ++at;
    if (text.charCodeAt(at) === code.minus) at++;
    const whole = at;
    let digits = 0;
    for (let next = text.charCodeAt(at); isDigit(next); next = text.charCodeAt(++at)) digits = 10 * digits + next - code.zero;
    const wholeDigits = at - whole;
    if (wholeDigits === 0 || wholeDigits > mostWholeDigits) return null;
    let decimals = 0;
    if (text.charCodeAt(at) === code.point) {
      const point = at++;
      for (let next = text.charCodeAt(at); isDigit(next); next = text.charCodeAt(++at)) digits = 10 * digits + next - code.zero;
      decimals = at - point - 1;
      if (decimals === 0 || decimals > mostDecimals) return null;
    }
    let exact = wholeDigits + decimals <= exactDigits;
    if ((text.charCodeAt(at) | toLowerCase) === code.e) {
      exact = false;
      const sign = text.charCodeAt(++at);
      if (sign === code.plus || sign === code.minus) at++;
      const exponent = at;
      while (isDigit(text.charCodeAt(at))) at++;
      if (at === exponent || at - exponent > mostExponentDigits) return null;
    }
    if (fact) {
      const size = digits / powersOfTen[decimals]!;
      facts[fact] = exact ? (whole > from ? -size : size) : Number(text.slice(from, at));
    }
    at = behindBlanks(text, at);
    if (at === text.length) return facts;
    if (text.charCodeAt(at) !== code.comma) return null;
    at++;
  }
}

function behindBlanks(text: string, at: number): number {
  for (;;) {
    const next = text.charCodeAt(at);
    if (next !== code.space && next !== code.tab) return at;
    at++;
  }
}

/** Of `[a-z*][a-z0-9_.*-]*`. */
function isOfKey(next: number, first: boolean): boolean {
  if ((next >= code.a && next <= code.z) || next === code.star) return true;
  return !first && (isDigit(next) || next === code.underscore || next === code.point || next === code.minus);
}

/** Not what lies behind the end: that is NaN. */
function isDigit(next: number): boolean {
  return next >= code.zero && next <= code.nine;
}

function factAt(text: string, key: number, end: number): NumberFact | undefined {
  for (const [name, fact] of members) if (name.length === end - key && text.startsWith(name, key)) return fact;
  return undefined;
}

/** Writes what is known of a batch as a `ce_gradient` header, numbers in full. */
export function writeGradientHeader({ base, batchSize, epoch, norm, loss, incarnation }: GradientFacts): string {
  const members: [string, number | undefined][] = [
    ['base', base],
    ['batch', batchSize],
    ['epoch', epoch],
    ['norm', norm],
    ['loss', loss],
    ['incarnation', incarnation],
  ];
  return members.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`])).join(', ');
}

function parseAny(text: string): { facts: GradientFacts } | { problem: string } {
  const facts = noFacts();
  if (text.trim() === '') return { facts };
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

function check(facts: Readonly<NumberFacts>): { facts: GradientFacts } | { problem: string } {
  for (const fact of numberFacts) {
    const value = facts[fact];
    if (value === undefined) continue;
    if (!Number.isFinite(value)) return { problem: `${fact} is not finite` };
    if (fact === 'norm' && value < 0) return { problem: 'norm is negative' };
    const least = leastOf[fact];
    if (least !== undefined && !(Number.isSafeInteger(value) && value >= least)) {
      return { problem: `${fact} is no whole number of at least ${least}` };
    }
  }
  return { facts };
}
