import { joined, split } from './batch.ts';
import { madeUpRequest } from './made-up-request.ts';
import type { ModelInput } from './onnx/model.ts';
import type { Outputs, Runner } from './runner.ts';

const TOLERANCE = 1e-3;

/**
 * Tries whether a model's outputs for a row depend on other rows, as where the first dimension is time: such predictions must not
 * be put together. Says no where it cannot be tried with made-up values.
 */
export async function mixesRows(runner: Runner, inputs: readonly ModelInput[]): Promise<boolean> {
  try {
    const members = [0.25, -0.75].map((float) => madeUpRequest('', inputs, 1, float));
    const alone: Outputs[] = [];
    for (const feeds of members) alone.push((await runner.run(feeds, null)).outputs);
    const together = split((await runner.run(joined(inputs, members), null)).outputs, [1, 1]);
    return !together || together.some((outputs, i) => !isAbout(outputs, alone[i]!));
  } catch {
    return false;
  }
}

function isAbout(outputs: Outputs, expected: Outputs): boolean {
  return Object.entries(outputs).every(([name, { data }]) => {
    const other = expected[name]!.data;
    return data.length === other.length && Array.from(data as ArrayLike<unknown>).every((value, i) => isClose(value, other[i]));
  });
}

function isClose(value: unknown, other: unknown): boolean {
  if (Object.is(value, other) || typeof value === 'string') return value === other || Object.is(value, other);
  const [a, b] = [Number(value), Number(other)];
  return Math.abs(a - b) <= TOLERANCE * (1 + Math.abs(b));
}
