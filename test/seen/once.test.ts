import fc from 'fast-check';
import { type GradientFacts, gradientBatch } from 'rxgrad';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { GradientBatch, type OnceState } from '../../src/events.ts';
import { Once } from '../../src/once.ts';
import { SeenWorkers } from '../../src/seen/seen-workers.ts';

const MOST_WORKERS = 4;
const WINDOW = 1024;
const message = gradientBatch({ gradients: { w: Float32Array.of(1) } }).message;
const source = { done: () => {} };

type Place = { topic: string; partition: number; offset: number } | null;

function batch(facts: GradientFacts, position: Place = null): GradientBatch {
  return new GradientBatch({ ...message, facts, delivery: position && { position, source } }, null);
}

/** What the deduplicator makes of a batch; what it does not refuse counts as applied. */
function take(once: Once, one: GradientBatch): string {
  const reason = once.refuse(one)?.key ?? 'applied';
  if (reason === 'applied') once.applied(one);
  return reason;
}

/** Remembers every sequence for good, and workers in the order in which they were seen. */
class Reference {
  readonly #workers = new Map<string, { incarnation: number; highest: number; seen: Set<number> }>();

  take({ worker, sequence, incarnation = 0 }: { worker: string; sequence: number; incarnation?: number }, place: Place): string {
    const key = JSON.stringify([place?.topic, place?.partition, worker]);
    let known = this.#workers.get(key);
    if (known && incarnation < known.incarnation) return 'outOfOrder';
    if (known && incarnation === known.incarnation) {
      if (sequence <= known.highest - WINDOW) return known.seen.has(sequence) ? 'duplicate or outOfOrder' : 'outOfOrder';
      if (known.seen.has(sequence)) return 'duplicate';
    } else known = { incarnation, highest: -1, seen: new Set() };
    known.seen.add(sequence);
    known.highest = Math.max(known.highest, sequence);
    this.#workers.delete(key);
    this.#workers.set(key, known);
    if (this.#workers.size > MOST_WORKERS) this.#workers.delete(this.#workers.keys().next().value!);
    return 'applied';
  }
}

/** A state as a file would have it: each number, whatever its array. */
function plain({ epoch, partitions, arrays }: OnceState): unknown {
  return { epoch, partitions, arrays: Object.entries(arrays).map(([name, array]) => [name, [...array].map(String)]) };
}

/** What is warned of from here on, to the end of the test. */
function heard(): string[] {
  const warnings: string[] = [];
  const warning = vi.spyOn(process, 'emitWarning').mockImplementation((message, options) => {
    warnings.push(`${(options as { code?: string }).code}: ${String(message)}`);
  });
  onTestFinished(() => warning.mockRestore());
  return warnings;
}

const anchors = [0, 1, 31, 32, 1022, 1023, 1024, 1025, 2048, 5000, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 17, 2 ** 53 - 1];
const sequence = fc
  .record({
    anchor: fc.constantFrom(...anchors),
    off: fc.oneof(fc.integer({ min: -4, max: 4 }), fc.integer({ min: -1100, max: 1100 })),
  })
  .map(({ anchor, off }) => Math.min(Math.max(0, anchor + off), Number.MAX_SAFE_INTEGER));
const facts = fc.record(
  {
    worker: fc.constantFrom('w', 'v', 'José', 'Jos\udce9'),
    sequence,
    incarnation: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 1, 7),
  },
  { requiredKeys: ['worker', 'sequence'] },
);
const place = fc.constantFrom<Place>(
  null,
  { topic: 'g', partition: 0, offset: 1 },
  { topic: 'g', partition: 0, offset: 2 },
  { topic: 'g', partition: 1, offset: 1 },
);
// Runs and swaps, as producers send them, among jumps.
const steps = fc.array(
  fc.record({
    facts,
    place,
    run: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 })),
    every: fc.integer({ min: 1, max: 40 }),
  }),
  { minLength: 1, maxLength: 40 },
);

describe('the deduplicator', () => {
  it('decides as one that remembers everything, also where it goes on from a state', () => {
    heard();
    fc.assert(
      fc.property(steps, fc.array(fc.nat(200)), (all, restores) => {
        let once = new Once(new SeenWorkers(MOST_WORKERS));
        const whole = new Once(new SeenWorkers(MOST_WORKERS));
        const reference = new Reference();
        let count = 0;
        for (const { facts, place, run, every } of all) {
          for (let i = 0; i < run; i++) {
            const one = { ...facts, sequence: Math.min(facts.sequence + i * every, Number.MAX_SAFE_INTEGER) };
            const expected = reference.take(one, place);
            const taken = take(once, batch(one, place));
            expect(expected).toContain(taken);
            expect(take(whole, batch(one, place))).toBe(taken);
            if (!restores.includes(count++)) continue;
            const state = once.state();
            once = new Once(new SeenWorkers(MOST_WORKERS));
            once.restore(state);
            expect(plain(once.state())).toEqual(plain(state));
          }
        }
        expect(plain(once.state())).toEqual(plain(whole.state()));
      }),
      { numRuns: Number(process.env.RXGRAD_RUNS ?? 300) },
    );
  });

  it('applies what comes in another order, and leaves out what comes twice', () => {
    const once = new Once();
    const taken = [4, 3, 9, 4, 3, 5].map((sequence) => take(once, batch({ worker: 'x', sequence })));
    expect(taken).toEqual(['applied', 'applied', 'applied', 'duplicate', 'duplicate', 'applied']);
  });

  it('knows all of a worker that left nothing out, however long ago, and of others once a window is full', () => {
    heard();
    const once = new Once();
    const takeAll = (from: number, to: number): Set<string> =>
      new Set(Array.from({ length: to - from }, (_, i) => take(once, batch({ worker: 'x', sequence: from + i }))));
    expect(takeAll(10, 5000)).toEqual(new Set(['applied']));
    expect(takeAll(10, 5000)).toEqual(new Set(['duplicate']));
    expect(takeAll(0, 10)).toEqual(new Set(['outOfOrder']));
    expect(takeAll(5001, 6025)).toEqual(new Set(['applied']));
    expect(takeAll(4999, 5001)).toEqual(new Set(['outOfOrder']));
    expect(takeAll(6025, 9000)).toEqual(new Set(['applied']));
    expect(takeAll(5001, 9000)).toEqual(new Set(['duplicate']));
    expect(takeAll(4000, 5001)).toEqual(new Set(['outOfOrder']));
  });

  it('rejects what is too far below the highest to know, and says so now and then', () => {
    const warnings = heard();
    const once = new Once();
    expect(take(once, batch({ worker: 'x', sequence: 5000 }))).toBe('applied');
    expect(take(once, batch({ worker: 'x', sequence: 5000 - 1023 }))).toBe('applied');
    for (let i = 0; i < 10; i++) expect(take(once, batch({ worker: 'x', sequence: 5000 - 1024 }))).toBe('outOfOrder');
    expect(warnings).toEqual([
      'RXGRAD_OUT_OF_ORDER: gradient batch: expected a sequence above 3976 (the highest is 5000) from worker "x", got 3976: too late to know whether it was applied. A worker that begins anew says so by a higher incarnation. 1 so far were rejected like this',
      expect.stringContaining('10 so far'),
    ]);
  });

  it('begins anew with a higher incarnation, and rejects what is left of a lower one', () => {
    const once = new Once();
    expect(take(once, batch({ worker: 'x', sequence: 5000 }))).toBe('applied');
    expect(take(once, batch({ worker: 'x', sequence: 0, incarnation: 1 }))).toBe('applied');
    expect(take(once, batch({ worker: 'x', sequence: 0, incarnation: 1 }))).toBe('duplicate');
    expect(take(once, batch({ worker: 'x', sequence: 5001 }))).toBe('outOfOrder');
  });

  it('does not compare the partitions of a topic, nor topics', () => {
    const once = new Once();
    const at = (topic: string, partition: number) => batch({ worker: 'x', sequence: 7 }, { topic, partition, offset: 0 });
    for (const [topic, partition] of [
      ['g', 0],
      ['g', 1],
      ['h', 0],
    ] as const) {
      expect(take(once, at(topic, partition))).toBe('applied');
      expect(take(once, at(topic, partition))).toBe('duplicate');
    }
  });

  it('knows the parts of a merged batch by where each stood', () => {
    const once = new Once();
    const members = [0, 1].map((partition) => ({ worker: 'x', sequence: 7, position: { topic: 'g', partition, offset: 0 } }));
    expect(take(once, batch({ members }))).toBe('applied');
    expect(take(once, batch({ members: members.slice(1) }))).toBe('duplicate');
    expect(take(once, batch({ worker: 'x', sequence: 7 }, members[0]!.position))).toBe('duplicate');
  });

  it('says when a worker seems to count from the beginning again', () => {
    const warnings = heard();
    const once = new Once();
    const records = Array.from({ length: 150 }, (_, sequence) => batch({ worker: 'x', sequence }));
    for (const record of [...records, ...records]) take(once, record);
    expect(warnings).toEqual([expect.stringMatching(/^RXGRAD_WORKER_REPEATS: .*100 records in a row of worker "x"/)]);
  });

  it.each([{ sequence: 1.5 }, { sequence: -1 }, { sequence: 2 ** 53 }, { sequence: 1, incarnation: Number.NaN }])(
    'refuses %o',
    (facts) => {
      expect(take(new Once(), batch({ worker: 'x', ...facts }))).toBe('undecodable');
    },
  );

  it('forgets who was not seen for the longest time, and says so', () => {
    const warnings = heard();
    const once = new Once(new SeenWorkers(2));
    const taken = ['a', 'b', 'a', 'c', 'b', 'a'].map((worker, sequence) => take(once, batch({ worker, sequence })));
    expect(taken).toEqual(Array(6).fill('applied'));
    expect(take(once, batch({ worker: 'b', sequence: 4 }))).toBe('duplicate');
    // The first `a` went when `b` came again.
    expect(take(once, batch({ worker: 'a', sequence: 0 }))).toBe('applied');
    expect(warnings).toEqual([expect.stringMatching(/^RXGRAD_WORKERS_FORGOTTEN: .*the last one "b"/)]);
  });

  it('forgets workers whose ids are long sooner', () => {
    const warnings = heard();
    const seen = new SeenWorkers(1000, 100);
    const once = new Once(seen);
    for (let i = 0; i < 20; i++) take(once, batch({ worker: `${i}`.padStart(9, 'é'), sequence: 0 }));
    expect([...seen].map(({ idBytes }) => idBytes)).toEqual([16, 16, 16, 16, 16, 16]);
    expect(warnings).toHaveLength(2);
  });

  it('warns once for a topic of batches that cannot be told apart', () => {
    const warnings = heard();
    const once = new Once();
    const position = { topic: 'unnamed', partition: 0, offset: 3 };
    for (const facts of [{}, { sequence: 1 }, { worker: 'x' }, { worker: '', sequence: 1 }]) {
      expect(take(once, batch(facts, position))).toBe('applied');
      expect(take(once, batch(facts))).toBe('applied');
    }
    expect(warnings).toEqual([expect.stringMatching(/^RXGRAD_NO_DUPLICATE_CHECK: unnamed\/0@3: a batch with no worker/)]);
  });
});
