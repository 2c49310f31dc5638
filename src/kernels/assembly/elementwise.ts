import { end, loadLanes, storeLanes, wholeVectorsEnd } from './lanes';

/** g ← g · factor */
export function scale(g: usize, length: i32, factor: f32): void {
  const s = f32x4.splat(factor);
  const vectors = wholeVectorsEnd(g, length);
  const last = end(g, length);
  for (; g < vectors; g += 16) storeLanes(g, f32x4.mul(loadLanes(g, false), s), false);
  for (; g < last; g += 4) storeLanes(g, f32x4.mul(loadLanes(g, true), s), true);
}

@inline
function clipAt(g: usize, low: v128, high: v128, single: bool): void {
  storeLanes(g, f32x4.pmin(f32x4.pmax(loadLanes(g, single), low), high), single);
}

/** g ← min(max(g, −limit), limit) */
export function clip(g: usize, length: i32, limit: f32): void {
  const low = f32x4.splat(-limit);
  const high = f32x4.splat(limit);
  const vectors = wholeVectorsEnd(g, length);
  const last = end(g, length);
  for (; g < vectors; g += 16) clipAt(g, low, high, false);
  for (; g < last; g += 4) clipAt(g, low, high, true);
}

@inline
function addScaledAt(y: usize, x: usize, factor: v128, single: bool): void {
  storeLanes(y, f32x4.add(loadLanes(y, single), f32x4.mul(factor, loadLanes(x, single))), single);
}

/** y ← y + a · x: for decay, rows that are added up, and batches that are accumulated. */
export function addScaled(y: usize, x: usize, length: i32, a: f32): void {
  const factor = f32x4.splat(a);
  const vectors = wholeVectorsEnd(y, length);
  const last = end(y, length);
  for (; y < vectors; y += 16, x += 16) addScaledAt(y, x, factor, false);
  for (; y < last; y += 4, x += 4) addScaledAt(y, x, factor, true);
}
