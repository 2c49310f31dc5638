import { checkpoint, embeddedLog, FileCheckpoints, fromTransport, momentum, recover } from 'rxgrad';
import { defer, from, lastValueFrom, retry, switchMap, tap } from 'rxjs';
import { expect, it, vi } from 'vitest';
import { batches, bitsOf, folders, model, topic } from './courses.ts';

const place = folders();

it('a stream that is tried again behind recover comes to the bits of one that did not fail', async (context) => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  context.onTestFinished(() => void warned.mockRestore());
  const transport = embeddedLog(place());
  context.onTestFinished(() => transport.close());
  await transport.createTopic(topic);
  await transport.produce(topic, batches('a', 40));
  const train = async (failures: number[]) => {
    const params = model();
    const store = new FileCheckpoints(place());
    const updates$ = defer(() => from(recover(params, store, { transport, topic }))).pipe(
      switchMap(({ source }) =>
        fromTransport(transport, { topic, ...source, until: 'end' }).pipe(
          momentum(params, { lr: 0.1 }),
          checkpoint(store, { everySteps: 10 }),
        ),
      ),
      tap(({ version }) => {
        if (version !== failures[0]) return;
        failures.shift();
        throw new Error('downstream');
      }),
      retry({ count: 3, delay: 1 }),
    );
    await lastValueFrom(updates$);
    return params;
  };
  const whole = await train([]);
  const failing = await train([7, 18, 33]);
  expect([failing.version, bitsOf(failing)]).toEqual([40, bitsOf(whole)]);
  expect(warned.mock.calls.filter(([, options]) => (options as { code?: string })?.code === 'RXGRAD_READ_AGAIN')).toEqual([]);
});
