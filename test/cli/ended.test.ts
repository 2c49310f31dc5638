import { NEVER, takeUntil, toArray } from 'rxjs';
import { expect, it } from 'vitest';
import { ended } from '../../src/cli/ended.ts';

it.each([true, false])('ends what is subscribed to, whether the signal came before (%s) or comes later', (before) => {
  const ending = new AbortController();
  if (before) ending.abort();
  const seen: unknown[] = [];
  NEVER.pipe(takeUntil(ended(ending.signal)), toArray()).subscribe((all) => seen.push(all));
  ending.abort();
  expect(seen).toEqual([[]]);
});
