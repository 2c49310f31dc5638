import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedLog } from '../src/index.ts';
import { fillTopic, topicSizes } from './filled-topic.ts';
import { takeTurns } from './race.ts';
import { type Report, type Table, tableOf } from './report.ts';
import { pipelineRun, transportRate } from './topic-runs.ts';

const rounds = 9;

/** Steps a second from the embedded log to live weights, beside what can be read from it at all. */
export default async function ingest(): Promise<Report> {
  const tables: Table[] = [];
  const folder = await mkdtemp(join(tmpdir(), 'rxgrad-bench-'));
  const log = embeddedLog(join(folder, 'bench.log'), { synchronous: 'normal' });
  try {
    for (const size of topicSizes) {
      const filled = await fillTopic(log, size);
      const alone = 'embedded log, read alone';
      const rates = await takeTurns(
        {
          [alone]: () => transportRate(log, filled),
          'embedded log → weights': async () => (await pipelineRun(log, filled)).rate,
        },
        rounds,
      );
      const title = `${size.kilobytes} KB`;
      tables.push(tableOf(rates, { title, unit: 'messages/s', reference: alone, best: Math.max }));
    }
  } finally {
    await log.close();
    await rm(folder, { recursive: true, force: true });
  }
  const measures = 'gradient messages → clip, decay → momentum → swap, one thread; from src/, Node strips the types';
  return { name: 'ingest', measures, tables, aims: [], notRun: [] };
}
