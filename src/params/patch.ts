import { copyBytes } from '../kernels/kernels.ts';
import type { Difference } from './differences.ts';
import { type Extent, noteFinite } from './note-finite.ts';
import type { WeightsFacts } from './origins.ts';
import type { Parameters } from './parameters.ts';
import { WeightsWriter } from './weights-writer.ts';

export type { Extent } from './note-finite.ts';

/**
 * Writes parts of the weights as one new version, which goes live at once; what is not written stays as it is. `write` gets
 * the address of each parameter on a side that nobody reads.
 */
export async function patch(
  params: Parameters,
  { version, madeAtMs, position }: WeightsFacts,
  extents: ReadonlyMap<number, Extent>,
  write: (addressOf: (index: number) => number) => void,
): Promise<void> {
  const { arena, places } = params;
  const writer = new WeightsWriter(params);
  while (params.seat.held || writer.blocked) {
    await params.seat.held;
    await writer.whenFree();
  }
  writer.begin();
  for (const index of places.keys()) {
    const lack = extents.get(index) === 'all' ? null : writer.lack(index);
    if (lack) catchUp(params, index, lack, writer.from, writer.to);
  }
  write((index) => writer.to + places[index]!.offset);
  const written = [...extents].map(([index, extent]) => {
    if (typeof extent === 'string') return { index, address: 0, count: 0, whole: true };
    const address = arena.allocate(extent.byteLength);
    new Int32Array(arena.memory.buffer, address, extent.length).set(extent);
    return { index, address, count: extent.length, whole: false };
  });
  for (const [index, extent] of extents) noteFinite(params, index, extent, writer.to);
  writer.commit(version, params.origins.of(position, madeAtMs), (noted) => {
    for (const { index, address, count, whole } of written) {
      if (whole) noted.add(index);
      else noted.addRows(index, address, count);
    }
  });
  for (const { address, count } of written) arena.release(address, 4 * count);
  params.swap();
}

/** Copies what one side lacks of a parameter from the other. */
function catchUp({ arena, places }: Parameters, index: number, lack: Difference, from: number, to: number): void {
  const { offset, length, dims } = places[index]!;
  const { bytes } = arena;
  if (lack.whole) {
    copyBytes(bytes, bytes, to + offset, from + offset, from + offset + 4 * length);
    return;
  }
  const stride = (4 * length) / dims[0]!;
  for (const row of new Int32Array(arena.memory.buffer, lack.address, lack.count)) {
    const at = offset + row * stride;
    bytes.copyWithin(to + at, from + at, from + at + stride);
  }
}
