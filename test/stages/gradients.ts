import fc from 'fast-check';
import { GradientBatch, gradientBatch, type TrainingEvent } from 'rxgrad';
import { firstValueFrom, type OperatorFunction, of } from 'rxjs';

/** A float32 of any size that stays finite when a few thousand are squared and added, −0 and denormals included. */
export const element = fc.oneof(
  fc.float({ min: -1e4, max: 1e4, noNaN: true }),
  fc.float({ min: Math.fround(-1e-38), max: Math.fround(1e-38), noNaN: true }),
  fc.constantFrom(0, -0, 2 ** -149, -(2 ** -149), 1e30, -1e30).map(Math.fround),
);

/** Lengths around those at which the kernels change their loops. */
export const length = fc.constantFrom(1, 2, 3, 4, 5, 7, 8, 9, 31, 100);

export const elements = length.chain((size) =>
  fc.array(element, { minLength: size, maxLength: size }).map((values) => Float32Array.from(values)),
);

/** Puts gradients through stages and reads them. */
export async function through(
  gradients: Float32Array,
  stages: OperatorFunction<TrainingEvent, TrainingEvent>,
): Promise<Float32Array> {
  const event = await firstValueFrom(of(gradientBatch({ gradients: { w: gradients } })).pipe(stages));
  if (!(event instanceof GradientBatch)) throw new Error(`expected a gradient batch, got ${event.kind}`);
  return event.gradients.w!;
}

export function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.slice().buffer);
}

export function normOf(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

/** Reproducible values from −1 to 1. */
export function wave(size: number, phase = 0): Float32Array {
  return Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + 0.5 + phase));
}
