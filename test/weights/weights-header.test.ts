import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseWeightsHeader, type WeightsFacts, writeWeightsHeader } from '../../src/weights/weights-header.ts';
import { snapshotFacts } from './snapshot-facts.ts';

const facts = fc
  .record({
    version: fc.maxSafeNat(),
    sequence: fc.integer({ min: 1, max: 1e15 - 1 }),
    kind: fc.constantFrom('snapshot' as const, 'delta' as const),
    shards: fc.integer({ min: 1, max: 1024 }),
    parts: fc.integer({ min: 1, max: 65_536 }),
    crc32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  })
  .map(({ version, ...rest }): WeightsFacts => {
    const base = rest.kind === 'delta' ? rest.sequence - 1 : undefined;
    return { ...rest, version: Math.min(version, 1e15 - 1), base, shard: rest.shards - 1, part: rest.parts - 1 };
  });

it('is read as it was written', () => {
  fc.assert(
    fc.property(facts, (written) => {
      expect(parseWeightsHeader(writeWeightsHeader(written))).toEqual({ facts: written });
    }),
  );
});

const good = 'version=12, sequence=3, kind=delta, base=2, shard=0, shards=2, part=0, parts=1, crc32=7';

it('leaves what it does not know alone', () => {
  expect(parseWeightsHeader(`${good}, more="x";y=1`)).toMatchObject({ facts: { version: 12, base: 2 } });
});

it.each([
  ['', 'kind'],
  ['{"version": 1}', ''],
  [good.replace('kind=delta', 'kind=other'), 'kind'],
  [good.replace('base=2', 'base=3'), 'base'],
  [good.replace('base=2, ', ''), 'base'],
  [good.replace('shard=0', 'shard=2'), 'shard'],
  [good.replace('shards=2', 'shards=1025'), 'shards'],
  [good.replace('parts=1', 'parts=65537'), 'parts'],
  [good.replace('version=12', 'version=-1'), 'version'],
  [good.replace('version=12', 'version=1.5'), 'version'],
  [good.replace('crc32=7', 'crc32=4294967296'), 'crc32'],
  [good.replace('crc32=7', 'crc32'), 'crc32'],
  [good.replace('sequence=3', 'sequence=-1'), 'sequence'],
  [good.replace('shards=2', 'shards=0'), 'shards is no whole number from 1 to 1024'],
  [good.replace('parts=1', 'parts=0'), 'parts is no whole number from 1 to 65536'],
  [good.replace('part=0', 'part=1'), 'part is no whole number from 0 to 0'],
  [good.replace('shard=0', 'shard=-1'), 'shard is no whole number from 0 to 1'],
  [`${good}, course=""`, 'course is no text of at most 100 characters'],
  [`${good}, course="${'a'.repeat(101)}"`, 'course'],
  [`${good}, course=5`, 'course'],
  [
    good.replace('version=12', 'version=x').replace('crc32=7', 'crc32=x'),
    'version is no whole number from 0 to 9007199254740991, crc32 is',
  ],
])('says what is wrong with %j', (text, part) => {
  expect(parseWeightsHeader(text)).toEqual({ problem: expect.stringContaining(part) });
});

it('may name the course of training, which may be as long as it is written', () => {
  const written = snapshotFacts({ course: 'a'.repeat(100), sequence: 1 });
  const text = writeWeightsHeader(written);
  expect(parseWeightsHeader(text)).toEqual({ facts: written });
  expect(parseWeightsHeader(text.replace(/, course=.*/, ''))).toEqual({ facts: { ...written, course: undefined } });
});

it('never throws', () => {
  fc.assert(fc.property(fc.string(), (text) => 'problem' in parseWeightsHeader(text)));
  expect(parseWeightsHeader('')).toHaveProperty('problem');
});
