import { isRxgradError, RxgradError } from '../errors.ts';
import type { Asked } from './asked.ts';
import { joined, split } from './batch.ts';
import type { ModelInput } from './onnx/model.ts';
import type { Runner } from './runner.ts';

interface BatchedModel {
  readonly name: string;
  readonly inputs: readonly ModelInput[];
}

/**
 * Runs predictions of one signature, together where there are several, and tells each caller. Where they fail together they run
 * one by one, so that a bad one does not fail its neighbours. False where the outputs cannot be cut by rows.
 */
export async function runBatch(model: BatchedModel, runner: Runner, batch: readonly Asked[]): Promise<boolean> {
  if (batch.length === 1) {
    await runOne(model, runner, batch[0]!);
    return true;
  }
  let isCut = true;
  try {
    const feeds = joined(
      model.inputs,
      batch.map((asked) => asked.feeds),
    );
    const { outputs, weights, durationMs } = await runner.run(feeds, batch[0]!.slot);
    const parts = split(
      outputs,
      batch.map(({ rows }) => rows),
    );
    if (parts) {
      for (const [i, asked] of batch.entries()) asked.resolve({ outputs: parts[i]!, weights, durationMs });
      return true;
    }
    isCut = false;
  } catch (error) {
    // An error of rxgrad is about none of them, but about where they ran.
    if (isRxgradError(error)) {
      for (const asked of batch) asked.reject(error);
      return true;
    }
  }
  for (const asked of batch) await runOne(model, runner, asked);
  return isCut;
}

async function runOne(model: BatchedModel, runner: Runner, asked: Asked): Promise<void> {
  if (asked.isSettled) return;
  try {
    asked.resolve(await runner.run(asked.feeds, asked.slot));
  } catch (error) {
    asked.reject(runError(model.name, error));
  }
}

/** What a caller hears of a run that failed. */
export function runError(model: string, cause: unknown): RxgradError {
  if (isRxgradError(cause)) return cause;
  return new RxgradError('predictionFailed', { model, problem: (cause as Error).message }, { cause });
}
