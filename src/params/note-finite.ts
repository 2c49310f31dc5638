import type { WeightBuffers } from './weight-buffers.ts';

/** How much of a parameter is written: all of it, these rows, or any part, which counts as all of it afterwards. */
export type Extent = 'all' | 'part' | Int32Array;

/** Notes whether what was written of a parameter, in the weights at an address, is finite. */
export function noteFinite(
  { arena, places, finiteness }: Pick<WeightBuffers, 'arena' | 'places' | 'finiteness'>,
  index: number,
  extent: Extent,
  at: number,
): void {
  const { offset, length, dims } = places[index]!;
  const areFinite = (from: number, count: number) => Number.isFinite(arena.kernels.sumOfSquares(at + offset + 4 * from, count));
  if (typeof extent === 'string') {
    finiteness.note(index, areFinite(0, length), true);
    return;
  }
  const width = length / dims[0]!;
  finiteness.note(
    index,
    extent.every((row) => areFinite(row * width, width)),
    false,
  );
}
