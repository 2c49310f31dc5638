import fc from 'fast-check';
import { hotSwap, type LogRecord, type Parameters, type Rejection, type TrainingEvent } from 'rxgrad';
import { from, identity, lastValueFrom, map, tap, toArray } from 'rxjs';
import { expect, it, vi } from 'vitest';
import { EventDecoder } from '../../src/sources/codec.ts';
import { chains, type Log, logs, model, optimizers, optionsOf, recordsOf, stagesOf, takesAnyMetric } from '../law/programs.ts';
import { bitsOf } from './batches.ts';

/** Events as they come from the wire, each in a type of its own. */
function eventsOf(log: Log, oneMetric: boolean): TrainingEvent[] {
  const decoder = new EventDecoder();
  return recordsOf(log, oneMetric).map(({ key = null, value, headers = {} }, offset) => {
    const record = { key, value, headers, offset, timestampMs: 0 } as LogRecord;
    return decoder.decode(record, { position: { topic: 't', partition: 0, offset }, source: { done() {} }, record });
  });
}

interface Run {
  readonly threads: number;
  readonly reading: boolean;
}

it('any optimizer behind any stages gives the same bits in place, on threads, and beside readers', async () => {
  vi.spyOn(process, 'emitWarning').mockReturnValue();
  await fc.assert(
    fc.asyncProperty(logs, chains, optimizers, fc.boolean(), async (log, chain, optimizer, readingToo) => {
      const { average, scan } = optimizer;
      // What reads or merges decayed gradients needs weights that no thread is writing.
      const staged = chain.filter((name) => name !== 'decay');
      const run = async ({ threads, reading }: Run, stages = chain) => {
        const into = model();
        const params: Parameters = average ? into.twin() : into;
        const reasons: string[] = [];
        const readers = reading ? [params.reader(), into.reader()] : [];
        const updates = await lastValueFrom(
          from(eventsOf(log, takesAnyMetric(optimizer))).pipe(
            stagesOf(stages, params),
            scan[1](params, {
              ...optionsOf(optimizer),
              threads,
              rejections: { next: ({ reason, position }: Rejection) => reasons.push(`${position?.offset} ${reason}`) },
              ...(average ? { average: { into, ...average } } : {}),
            }),
            hotSwap({ params: into, swap: () => into.swap() }),
            reading ? tap(() => params.swap()) : identity,
            map(({ version, lr, gradientNorm, clipped, epoch }) => ({ version, lr, gradientNorm, clipped, epoch })),
            toArray(),
          ),
        );
        for (const reader of readers) reader.close();
        return { bits: bitsOf(params), average: bitsOf(into), reasons, updates };
      };
      const here = { threads: 0, reading: false };
      expect(await run({ threads: 0, reading: true })).toEqual(await run(here));
      expect(await run({ threads: 1, reading: readingToo }, staged)).toEqual(await run(here, staged));
    }),
    { numRuns: 60, seed: 20261130 },
  );
}, 180_000);
