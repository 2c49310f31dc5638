import { RxgradError } from '../errors.ts';

/** The error of a consumption that asked for a whole log, where records are missing at `expected`, the next offset to be read. */
export function offsetGap(topic: string, partition: number, expected: number, got: number | string): RxgradError {
  return new RxgradError('offsetGap', { where: `${topic}/${partition}`, expected, got });
}

/**
 * How many of some records, in order of their offsets, follow `next` without a gap. Fails where the first of them does not: what comes
 * before a gap is delivered, and then the gap is an error.
 */
export function countWhole(
  topic: string,
  partition: number,
  next: number,
  offsets: readonly { readonly offset: number }[],
): number {
  if (offsets.length === 0 || offsets.at(-1)!.offset === next + offsets.length - 1) return offsets.length;
  const gap = offsets.findIndex(({ offset }, i) => offset !== next + i);
  if (gap === 0) throw offsetGap(topic, partition, next, offsets[0]!.offset);
  return gap;
}
