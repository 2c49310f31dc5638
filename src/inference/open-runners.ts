import type { InferenceSession } from 'onnxruntime-node';
import type { Parameters } from '../params/parameters.ts';
import { LocalRunner } from './local-runner.ts';
import type { ModelInput } from './onnx/model.ts';
import { type ModelSource, type Opening, openSession } from './open-session.ts';
import type { Runner } from './runner.ts';
import { ThreadRunner } from './thread-runner.ts';

/** Opens the model on so many threads, or on this one. */
export async function openRunners(
  source: ModelSource,
  inputs: readonly ModelInput[],
  params: Parameters,
  workers: number,
  options: InferenceSession.SessionOptions = {},
): Promise<{ runners: Runner[]; opening: Opening }> {
  if (workers === 0) {
    const { session, opening } = await openSession(source, options);
    return { runners: [new LocalRunner(session, params.reader())], opening };
  }
  const model = { source, options, inputNames: inputs.map(({ name }) => name) };
  const opened = await Promise.allSettled(Array.from({ length: workers }, () => ThreadRunner.open(model, params)));
  const runners = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const failed = opened.find((result) => result.status === 'rejected');
  if (failed) {
    await Promise.all(runners.map((runner) => runner.close()));
    throw failed.reason;
  }
  return { runners, opening: runners[0]!.opening! };
}
