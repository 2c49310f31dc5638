import fc from 'fast-check';
import MersenneTwister from 'mersenne-twister';
import { describe, expect, it } from 'vitest';
import { parseGradientHeader, writeGradientHeader } from '../../src/sources/gradient-header.ts';

const number = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value || 0);
const facts = fc.record(
  {
    base: fc.maxSafeNat(),
    batchSize: fc.maxSafeNat().map((size) => Math.max(1, size)),
    epoch: fc.maxSafeNat(),
    norm: fc.oneof(number, fc.double({ min: 0, max: 10, noNaN: true })).map(Math.abs),
    loss: fc.oneof(
      number,
      fc.double({ min: -1e-5, max: 1e-5, noNaN: true }).map((value) => value || 0),
    ),
  },
  { requiredKeys: [] },
);

describe('the ce_gradient header', () => {
  it('gives back what was written, to the last digit', () => {
    fc.assert(
      fc.property(facts, (said) => {
        expect(parseGradientHeader(writeGradientHeader(said))).toEqual({ facts: said });
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    ['base=12340, batch=32, epoch=3, norm=1.2345, loss=0.43', { base: 12340, batchSize: 32, epoch: 3, norm: 1.2345, loss: 0.43 }],
    ['', {}],
    ['  ', {}],
    ['base=1', { base: 1 }],
    ['base=1,batch=2', { base: 1, batchSize: 2 }],
    ['base=1 \t, \tbatch=2', { base: 1, batchSize: 2 }],
    ['base=007', { base: 7 }],
    ['loss=-1.5', { loss: -1.5 }],
    ['loss=1e-7', { loss: 1e-7 }],
    ['loss=1.5E+2', { loss: 150 }],
    ['loss=2e100', { loss: 2e100 }],
    ['loss=-0', { loss: -0 }],
    ['loss=123456789012.345', { loss: 123456789012.345 }],
    ['loss=0.1234567890123456789', { loss: 0.12345678901234568 }],
    ['base=1, base=2', { base: 2 }],
    ['unknown=5, base=1', { base: 1 }],
    ['note="batch=5, base=6", base=1', { base: 1 }],
    ['flag, base=1', { base: 1 }],
    ['flag=?0, base=1', { base: 1 }],
    ['token=abc, bytes=:aGk=:, text=%"f%c3%bc", base=1, date=@1659578233', { base: 1 }],
    ['inner=(1 2 3);q=1, base=1', { base: 1 }],
    ['base=1;unit=steps, loss=0.5;a=b', { base: 1, loss: 0.5 }],
    ['*=9, *a=9, a*=9, b.c-d_e0=9, base=1', { base: 1 }],
    ['bas=9, bases=8, xbase=7, base=1', { base: 1 }],
    ['norm=0, base=0, epoch=0, incarnation=0, batch=1', { norm: 0, base: 0, epoch: 0, incarnation: 0, batchSize: 1 }],
    ['base=9007199254740991', { base: 9007199254740991 }],
    [`loss=${'1'.repeat(21)}`, { loss: Number('1'.repeat(21)) }],
    [`loss=-0.${'0'.repeat(20)}12`, { loss: -1.2e-21 }],
    ['loss=123456789012345.6, norm=99999999999999.9', { loss: 123456789012345.6, norm: 99999999999999.9 }],
    ['loss=1e+100, norm=1e-323', { loss: 1e100, norm: 1e-323 }],
    ['\tbase=1\t', { base: 1 }],
  ])('reads %j', (text, expected) => {
    expect(parseGradientHeader(text)).toEqual({ facts: expected });
  });

  it.each([
    ['base="1"', 'base is no number'],
    ['base', 'base is no number'],
    ['loss=(1)', 'loss is no number'],
    ['base=1.5', 'base is no whole number of at least 0'],
    ['base=-1', 'base is no whole number of at least 0'],
    ['batch=9007199254740993', 'batchSize is no whole number of at least 1'],
    ['batch=0', 'batchSize is no whole number of at least 1'],
    ['norm=-1', 'norm is negative'],
    ['loss=1e999', 'loss is not finite'],
    ['norm=-1', 'norm is negative'],
    ['norm=-1;of=all', 'norm is negative'],
    ['norm=NaN', 'norm is no number'],
    ['norm=Infinity', 'norm is no number'],
    ['loss=NaN', 'loss is no number'],
    ['base=-', 'Parse error'],
    ['=1', 'Parse error'],
    ['0base=1', 'Parse error'],
    ['_base=1', 'Parse error'],
    ['.base=1', 'Parse error'],
    ['-base=1', 'Parse error'],
    ['base=1.', 'Parse error'],
    ['base=1.x', 'Parse error'],
    ['base=/1', 'Parse error'],
    ['base=1:', 'Parse error'],
    ['base=.5', 'Parse error'],
    ['{=1, base=1', 'Parse error'],
    ['`=1, base=1', 'Parse error'],
    ['loss=1e+', 'Parse error'],
    [`loss=${'1'.repeat(22)}`, 'Parse error'],
    [`loss=0.${'1'.repeat(23)}`, 'Parse error'],
    ['loss=1e1000', 'Parse error'],
    ['epoch=-1', 'epoch is no whole number of at least 0'],
    ['incarnation=0.5', 'incarnation is no whole number of at least 0'],
    ['base=', 'Parse error'],
    ['loss=1e', 'Parse error'],
    ['loss=1e-', 'Parse error'],
    ['loss=1e0005', 'Parse error'],
    ['loss=1e5x', 'Parse error'],
    ['base=1,', 'Parse error'],
    ['Base=1', 'Parse error'],
    ['base=1 batch=2', 'Parse error'],
    ['{"base":1}', 'Parse error'],
    ['base=1\u0000', 'Parse error'],
  ])('refuses %j', (text, problem) => {
    expect(parseGradientHeader(text)).toEqual({ problem: expect.stringContaining(problem) });
  });

  it('reads numbers of any length to the last digit, as JavaScript does', () => {
    const random = new MersenneTwister(3);
    for (let i = 0; i < 2000; i++) {
      const size = 10 ** Math.floor(40 * random.random() - 20);
      const text = String((random.random() - 0.5) * size).slice(0, 2 + Math.floor(22 * random.random()));
      if (!/^-?\d+(\.\d+)?(e[+-]\d+)?$/.test(text)) continue;
      expect(parseGradientHeader(`loss=${text}`), text).toEqual({ facts: { loss: Number(text) } });
    }
  });

  it('is empty where nothing is known', () => {
    expect(writeGradientHeader({})).toBe('');
    expect(writeGradientHeader({ worker: 'w', sequence: 3, base: 0, incarnation: 2 })).toBe('base=0, incarnation=2');
  });

  it('never throws', () => {
    const near = fc.string({ unit: fc.constantFrom(...'base=12.,; e-+"()?:@%\\\u0000é') });
    fc.assert(
      fc.property(fc.oneof(fc.string(), near), (text) => {
        const read = parseGradientHeader(text);
        if ('facts' in read) for (const value of Object.values(read.facts)) expect(value ?? 0).toSatisfy(Number.isFinite);
        else expect(read.problem).not.toBe('');
      }),
      { numRuns: 1000 },
    );
  });
});
