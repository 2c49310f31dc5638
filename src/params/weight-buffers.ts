import type { Arena } from '../kernels/arena.ts';
import type { Changes } from './changes.ts';
import type { Differences } from './differences.ts';
import type { Finiteness } from './finiteness.ts';
import type { LeftRight } from './left-right.ts';
import type { Origins } from './origins.ts';
import type { ScanSeat } from './scan-seat.ts';
import type { ParameterPlace } from './weights-reader.ts';

/** Buffers of weights, as far as those who write them need them. `Parameters` are such. */
export interface WeightBuffers {
  readonly arena: Arena;
  readonly leftRight: LeftRight;
  /** Where each parameter lies in a buffer. */
  readonly places: readonly ParameterPlace[];
  /** Bytes of a buffer. */
  readonly byteLength: number;
  /** What the buffer that holds the newest weights has beside the other one that is written in turn. */
  readonly differences: Differences;
  /** Who is told what is written, beside {@link differences}. */
  readonly followers: ReadonlySet<Changes>;
  /** Which of the newest weights are finite. */
  readonly finiteness: Finiteness;
  /** Where weights came from. */
  readonly origins: Origins;
  readonly seat: ScanSeat;
}
