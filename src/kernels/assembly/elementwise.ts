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
function addDecayAt(g: usize, w: usize, decay: v128, single: bool): void {
  storeLanes(g, f32x4.add(loadLanes(g, single), f32x4.mul(decay, loadLanes(w, single))), single);
}

/** g ← g + decay · w */
export function addDecay(g: usize, w: usize, length: i32, decay: f32): void {
  const d = f32x4.splat(decay);
  const vectors = wholeVectorsEnd(g, length);
  const last = end(g, length);
  for (; g < vectors; g += 16, w += 16) addDecayAt(g, w, d, false);
  for (; g < last; g += 4, w += 4) addDecayAt(g, w, d, true);
}
