import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedLog, memoryTransport } from 'rxgrad';
import { from } from 'rxjs';
import { expect, it } from 'vitest';
import { bitsOf, model, playThrough, recordedLog, rule } from './one-log.ts';

it('gives the same bits from memory and from the embedded log as without a log', async (t) => {
  const params = model();
  from(recordedLog()).pipe(rule(params)).subscribe();
  const direct = bitsOf(params);
  expect(new Set(direct).size).toBeGreaterThan(100);

  expect(await playThrough(memoryTransport(), 'gradients')).toEqual(direct);

  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-'));
  const log = embeddedLog(join(folder, 'log.db'));
  t.onTestFinished(async () => {
    await log.close();
    rmSync(folder, { recursive: true });
  });
  expect(await playThrough(log, 'gradients')).toEqual(direct);
});
