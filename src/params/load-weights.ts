import { assertNoDifferences, RxgradError } from '../errors.ts';
import { copyBytes } from '../kernels/kernels.ts';
import type { LogPlace } from './origins.ts';
import type { Parameters } from './parameters.ts';
import { noteFinite } from './patch.ts';
import { WeightsWriter } from './weights-writer.ts';

/** What is said of weights that are loaded. */
export interface LoadOptions {
  /** Their number. Default: one more than that of the newest ones. */
  readonly version?: number;
  /** The last event of the log that they contain. Default: none. */
  readonly position?: LogPlace | null;
  /** Milliseconds since 1970 (UTC) when they were made. Default: now. */
  readonly madeAtMs?: number;
}

/** Replaces weights by one new version, blocking the thread where the side to be written is still being read. */
export function loadWeights(
  params: Parameters,
  values: Readonly<Record<string, ArrayLike<number>>>,
  { version = params.version + 1, position = null, madeAtMs }: LoadOptions,
): void {
  assertNoDifferences(Object.entries(values).flatMap(([name, data]) => differencesOf(params, name, data)));
  if (params.seat.held) {
    throw new RxgradError('stepUnderWay', { what: 'weights to be loaded', advice: 'wait for what copies them' });
  }
  const { leftRight, arena, places, byteLength, origins } = params;
  const writer = new WeightsWriter(params);
  leftRight.waitUntilFree(leftRight.target);
  writer.begin();
  const { bytes } = arena;
  if (!writer.inPlace) copyBytes(bytes, bytes, writer.to, writer.from, writer.from + byteLength);
  const written = [...places.entries()].filter(([, { name }]) => Object.hasOwn(values, name));
  for (const [index, { name, offset, length }] of written) {
    arena.floats(writer.to + offset, length).set(values[name]!);
    noteFinite(params, index, 'all', writer.to);
  }
  writer.commit(version, origins.of(position, madeAtMs), (noted) => {
    for (const [index] of written) noted.add(index);
  });
  params.swap();
}

function differencesOf(params: Parameters, name: string, data: ArrayLike<number>): string[] {
  if (!params.has(name)) return [`"${name}" is not a parameter (there are ${params.names.join(', ')})`];
  const { length, dims } = params.get(name);
  return length === data.length ? [] : [`"${name}" has ${length} values [${dims}], got ${data.length}`];
}
