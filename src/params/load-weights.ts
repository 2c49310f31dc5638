import { assertNoDifferences, RxgradError } from '../errors.ts';
import { copyBytes } from '../kernels/kernels.ts';
import { noteFinite } from './note-finite.ts';
import type { LogPlace } from './origins.ts';
import type { WeightBuffers } from './weight-buffers.ts';
import type { ParameterPlace } from './weights-reader.ts';
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

/** Writes weights as one new version, which is the newest then. Where the side to be written is being read, another buffer takes its place. */
export function loadWeights(
  params: WeightBuffers,
  values: Readonly<Record<string, ArrayLike<number>>>,
  { version, position = null, madeAtMs }: LoadOptions,
): void {
  const byName = new Map(params.places.map((place) => [place.name, place]));
  assertNoDifferences(Object.entries(values).flatMap(([name, data]) => differencesOf(byName, name, data)));
  const { seat, leftRight, arena, places, byteLength, origins } = params;
  if (seat.held || (seat.busy && leftRight.written !== null)) {
    const advice = 'await params.whenFree(), then load again';
    throw new RxgradError('stepUnderWay', { what: 'weights to be loaded', advice });
  }
  // What cannot be read as numbers fails before anything is written.
  const written = [...places.entries()].flatMap(([index, place]) => {
    const data = Object.hasOwn(values, place.name) ? values[place.name]! : null;
    return data ? [{ index, ...place, data: data instanceof Float32Array ? data : Float32Array.from(data) }] : [];
  });
  const writer = new WeightsWriter(params);
  writer.beginWhole();
  const { bytes } = arena;
  if (!writer.inPlace) copyBytes(bytes, bytes, writer.to, writer.from, writer.from + byteLength);
  for (const { index, offset, length, data } of written) {
    arena.floats(writer.to + offset, length).set(data);
    noteFinite(params, index, 'all', writer.to);
  }
  writer.commit(version ?? leftRight.version(leftRight.latest) + 1, origins.of(position, madeAtMs), (noted) => {
    for (const { index } of written) noted.add(index);
  });
}

function differencesOf(places: ReadonlyMap<string, ParameterPlace>, name: string, data: ArrayLike<number>): string[] {
  const own = places.get(name);
  if (!own) return [`"${name}" is not a parameter (there are ${[...places.keys()].join(', ')})`];
  return own.length === data.length ? [] : [`"${name}" has ${own.length} values [${own.dims}], got ${data.length}`];
}
