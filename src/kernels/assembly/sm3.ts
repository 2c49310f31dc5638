import { arrayOf, dimOf, gradientOf, noteBad, outOf, rankOf, rateOf, scalarOf, weightsOf } from './call';
import { end, loadLanes, storeLanes, wholeVectorsEnd } from './lanes';

/** What a row of the last axis shares. */
let mu: v128 = f32x4.splat(0);
let rest: v128 = f32x4.splat(0);
let eps: v128 = f32x4.splat(0);
let rate: v128 = f32x4.splat(0);
/** Bits that are set once new weights are not finite. */
let bad: v128 = i32x4.splat(0);

/** One vector of a row: returns the largest accumulators so far. */
@inline
function stepAt(w: usize, out: usize, g: usize, velocity: usize, last: usize, nexts: usize, least: v128, largest: v128, single: bool): v128 {
  const gradient = loadLanes(g, single);
  const sum = f32x4.add(f32x4.mul(gradient, gradient), f32x4.pmin(least, loadLanes(last, single)));
  const factor = f32x4.div(f32x4.splat(1), f32x4.sqrt(f32x4.add(sum, eps)));
  const u = v128.and(f32x4.mul(gradient, factor), f32x4.gt(sum, f32x4.splat(0)));
  const m = f32x4.add(f32x4.mul(mu, loadLanes(velocity, single)), f32x4.mul(rest, u));
  storeLanes(velocity, m, single);
  const next = f32x4.sub(loadLanes(w, single), f32x4.mul(rate, m));
  const difference = f32x4.sub(next, next);
  bad = v128.or(bad, single ? v128.and(difference, i32x4(-1, 0, 0, 0)) : difference);
  storeLanes(out, next, single);
  storeLanes(nexts, f32x4.pmax(loadLanes(nexts, single), sum), single);
  return f32x4.pmax(largest, single ? v128.and(sum, i32x4(-1, 0, 0, 0)) : sum);
}

/** Elements before an axis' accumulators. */
function startOf(call: usize, axis: i32): i32 {
  let start = 0;
  for (let a = 0; a < axis; a++) start += dimOf(call, a);
  return start;
}

/** SM3-II over a whole parameter: a row of the last axis at a time, whose other indices have one least accumulator. */
export function sm3(call: usize, _begin: i32, length: i32): void {
  const rank = rankOf(call);
  const width = rank == 0 ? 1 : dimOf(call, rank - 1);
  const lastStart = rank == 0 ? 0 : startOf(call, rank - 1);
  const total = lastStart + width;
  const accumulators = arrayOf(call, 1);
  const next = arrayOf(call, 2);
  mu = f32x4.splat(scalarOf(call, 0));
  rest = f32x4.splat(scalarOf(call, 1));
  eps = f32x4.splat(scalarOf(call, 2));
  rate = f32x4.splat(rateOf(call));
  bad = i32x4.splat(0);
  memory.fill(next, 0, (<usize>total) << 2);

  const last = accumulators + ((<usize>lastStart) << 2);
  const nextLast = next + ((<usize>lastStart) << 2);
  const rows = width == 0 ? 0 : length / width;
  for (let row = 0; row < rows; row++) {
    let least: f32 = Infinity;
    for (let axis = rank - 2, index = row; axis >= 0; axis--) {
      const dim = dimOf(call, axis);
      least = min<f32>(least, load<f32>(accumulators + ((<usize>(startOf(call, axis) + (index % dim))) << 2)));
      index /= dim;
    }

    const at = (<usize>(row * width)) << 2;
    const w = weightsOf(call) + at;
    const shiftOut = outOf(call) + at - w;
    const shiftG = gradientOf(call) + at - w;
    const shiftVelocity = arrayOf(call, 0) + at - w;
    const shiftLast = last - w;
    const shiftNext = nextLast - w;
    const vectors = wholeVectorsEnd(w, width);
    const stop = end(w, width);
    const leasts = f32x4.splat(least);
    let largest = f32x4.splat(0);
    let p = w;
    for (; p < vectors; p += 16) {
      largest = stepAt(p, p + shiftOut, p + shiftG, p + shiftVelocity, p + shiftLast, p + shiftNext, leasts, largest, false);
    }
    for (; p < stop; p += 4) {
      largest = stepAt(p, p + shiftOut, p + shiftG, p + shiftVelocity, p + shiftLast, p + shiftNext, leasts, largest, true);
    }

    const most = max<f32>(
      max<f32>(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
      max<f32>(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
    );
    for (let axis = rank - 2, index = row; axis >= 0; axis--) {
      const dim = dimOf(call, axis);
      const place = next + ((<usize>(startOf(call, axis) + (index % dim))) << 2);
      store<f32>(place, max<f32>(load<f32>(place), most));
      index /= dim;
    }
  }
  memory.copy(accumulators, next, (<usize>total) << 2);
  if (v128.any_true(bad)) noteBad(call);
}
