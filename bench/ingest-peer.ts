import type { FilledTopic } from './filled-topic.ts';
import { howToInstall, PythonWorker, python } from './python-worker.ts';
import type { PipelineRun } from './topic-runs.ts';

/** A pipeline in Python, in a process of its own that waits while it is not asked: see peers/ingest.py. */
export interface IngestPeer {
  readonly versions: Readonly<Record<string, string>>;
  run(brokers: readonly string[], filled: FilledTopic): Promise<PipelineRun>;
  close(): Promise<void>;
}

/** Starts it, or tells why it cannot take part. */
export async function openIngestPeer(): Promise<IngestPeer | { readonly reason: string }> {
  const worker = new PythonWorker(python, 'ingest.py');
  try {
    const { versions } = await worker.ask<{ versions: Record<string, string> }>({ command: 'describe' });
    return {
      versions,
      run: (brokers, { topic, messages, parameters }) =>
        worker.ask({ command: 'consume', brokers: brokers.join(','), topic, messages, bytes: 4 * parameters }),
      close: () => worker.close(),
    };
  } catch (error) {
    await worker.close();
    return { reason: `${python}: ${(error as Error).message}; ${howToInstall}` };
  }
}
