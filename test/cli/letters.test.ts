import { deadLetters, encodeEvent, fromTransport, gradientBatch, memoryTransport, Parameters, sgd } from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { expect, it } from 'vitest';
import { atPositions, readLetters } from '../../src/cli/dead-letters/letters.ts';
import { idOf, retryMark } from '../../src/sinks/retried-record.ts';

it('are told apart where the log was made anew under the same name, and so are those that were sent again', async () => {
  const kept = memoryTransport();
  await kept.createTopic('dead');
  const ids: (string | null)[] = [];
  for (let life = 0; life < 2; life++) {
    const log = memoryTransport();
    await log.createTopic('gradients');
    await log.produce('gradients', [encodeEvent(gradientBatch({ gradients: { w: Float32Array.of(Number.NaN) } }))]);
    ids.push((await log.describeTopic!('gradients')).id);
    const params = Parameters.create({ w: { dims: [1] } });
    const rejections = deadLetters(kept, { topic: 'dead' });
    const updates$ = fromTransport(log, { topic: 'gradients', until: 'end' }).pipe(sgd(params, { rejections }));
    await lastValueFrom(updates$, { defaultValue: null });
  }
  const [older, newer] = await readLetters(kept, 'dead');
  expect([older!.id, newer!.id]).toEqual([`gradients/0@0#${ids[0]}`, 'gradients/0@0']);
  expect([older!.topicId, newer!.topicId]).toEqual(ids);

  await kept.produce('dead', [retryMark({ id: idOf(older!), topicId: older!.topicId, as: 'gradients/0@1' })]);
  const letters = await readLetters(kept, 'dead');
  expect(letters.map(({ retriedAs }) => retriedAs)).toEqual(['gradients/0@1', null]);
  expect(atPositions(letters, ['gradients/0@0'], 'dead')).toEqual([letters[1]]);
  expect(atPositions(letters, [`gradients/0@0#${ids[0]}`], 'dead')).toEqual([letters[0]]);
});
