import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { embeddedLog, memoryTransport, type Transport } from 'rxgrad';
import { afterAll, it, vi } from 'vitest';
import { chains, logs, model, optimizers, optionsOf, orders, recordsOf, stagesOf, takesAnyMetric } from './programs.ts';
import { expectSame, type Program, run, topic } from './runs.ts';

const programs = Number(process.env.RXGRAD_PROGRAMS ?? 150);
// A fixed sample; others are drawn by hand.
const seed = { seed: Number(process.env.RXGRAD_SEED ?? 20261130) };

const folder = mkdtempSync(join(tmpdir(), 'rxgrad-law-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let logFiles = 0;

/** Memory mostly, which is fast. */
const transports = fc.oneof(
  { weight: 29, arbitrary: fc.constant<() => Transport>(memoryTransport) },
  { weight: 1, arbitrary: fc.constant(() => embeddedLog(join(folder, `${logFiles++}.db`), { synchronous: 'normal' })) },
);
const threads = fc.oneof({ weight: 29, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constant(2) });

it(
  'a run that goes on from any state of another gives the same bits, state, rates and rejections as the uninterrupted one',
  async () => {
    vi.spyOn(process, 'emitWarning').mockReturnValue();
    await fc.assert(
      fc.asyncProperty(
        logs,
        chains,
        optimizers,
        orders,
        fc.tuple(transports, threads, fc.constantFrom(null, null, 0, 1, 2)),
        fc.array(fc.nat(), { minLength: 2, maxLength: 4 }),
        async (log, chain, optimizer, order, [makeTransport, threads, partition], points) => {
          const transport = makeTransport();
          await transport.createTopic(topic, { partitions: partition === null ? 1 : 3 });
          const records = recordsOf(log, takesAnyMetric(optimizer));
          // The others hold what must not count.
          const others = [0, 1, 2].filter((other) => partition !== null && other !== partition);
          await transport.produce(
            topic,
            records.flatMap((record) => [partition ?? 0, ...others].map((place) => ({ ...record, partition: place }))),
          );
          const program = (parameters: readonly number[]): Program => {
            const into = model(parameters);
            return {
              transport,
              ...(partition === null ? {} : { partition }),
              model: () => (optimizer.average ? into.twin() : into),
              stages: (params) => stagesOf(chain, params),
              scan: (params, own) =>
                optimizer.scan[1](params, {
                  ...optionsOf(optimizer),
                  // What reads or merges decayed gradients needs weights that no thread is writing.
                  threads: chain.includes('decay') ? 0 : threads,
                  ...own,
                  ...(optimizer.average ? { average: { into, ...optimizer.average } } : {}),
                }),
            };
          };
          const whole = await run(program([0, 1, 2]), null);

          // Crashes, one after the other: each leaves some state of the run before it.
          let last = whole;
          for (const point of points) {
            const left = last.snapshots[point % last.snapshots.length]!;
            last = await run(program(order), left);
            expectSame(last, whole, left);
          }
          // A stop half way, in order.
          const stopped = await run(program(order), null, {
            offsets: new Map([[partition ?? 0, points[0]! % (log.length + 1)]]),
          });
          const end = stopped.snapshots.at(-1)!;
          expectSame(await run(program([0, 1, 2]), end), whole, end);
          await transport.close();
        },
      ),
      { numRuns: programs, ...seed },
    );
  },
  60_000 + 1000 * programs,
);
