import { arrayOf, dimOf, gradientOf, rankOf, scalarOf, sumsOf, weightsOf } from './call';
import { end, high, loadLanes, low, storeLanes, wholeVectorsEnd } from './lanes';
import { sumOfSquares } from './reduce';

/**
 * Adafactor's factored second moment, one matrix of the last two axes after the other: means over rows and columns in
 * float64, then u = g / √(r c / mean(r)) in the place of the gradient. Leaves the sums of u² and of θ².
 */
export function adafactorFactored(call: usize, _begin: i32, length: i32): void {
  const rank = rankOf(call);
  const height = dimOf(call, rank - 2);
  const width = dimOf(call, rank - 1);
  const stride = (<usize>width) << 2;
  const area = height * width;
  const matrices = area == 0 ? 0 : length / area;
  const work = arrayOf(call, 2);
  let squares: f64 = 0;
  let weights: f64 = 0;
  for (let m = 0; m < matrices; m++) {
    const g = gradientOf(call) + (<usize>m) * (<usize>height) * stride;
    const w = weightsOf(call) + (<usize>m) * (<usize>height) * stride;
    const row = arrayOf(call, 0) + ((<usize>(m * height)) << 2);
    const mean = moveAverages(call, g, row, arrayOf(call, 1) + (<usize>m) * stride, height, width);
    for (let i = 0; i < height; i++) {
      const factor = <f32>Math.sqrt(mean / <f64>load<f32>(row + ((<usize>i) << 2)));
      direct(g + (<usize>i) * stride, work, factor, width);
    }
    squares += sumOfSquares(g, area);
    weights += sumOfSquares(w, area);
  }
  store<f64>(sumsOf(call), squares);
  store<f64>(sumsOf(call) + 8, weights);
}

/** Moves the averages of a matrix, leaves 1 / √c of each column in the work space, and returns the mean of r. */
function moveAverages(call: usize, g: usize, row: usize, column: usize, height: i32, width: i32): f64 {
  const work = arrayOf(call, 2);
  const eps = <f64>scalarOf(call, 2);
  memory.fill(work, 0, (<usize>width) << 3);
  let total: f64 = 0;
  for (let i = 0; i < height; i++) {
    const sum = addSquares(g + (<usize>i) * ((<usize>width) << 2), work, width);
    total += <f64>moved(call, row + ((<usize>i) << 2), sum / <f64>width + eps);
  }
  for (let j: usize = 0; j < <usize>width; j++) {
    const next = moved(call, column + (j << 2), load<f64>(work + (j << 3)) / <f64>height + eps);
    // What is written here was read already: a float32 is half of a float64.
    store<f32>(work + (j << 2), <f32>(1 / Math.sqrt(<f64>next)));
  }
  return total / <f64>height;
}

/** Adds the squares of a row to the sums of the columns, and returns their own. */
function addSquares(g: usize, columns: usize, width: i32): f64 {
  const vectors = wholeVectorsEnd(g, width);
  const last = end(g, width);
  let sum = f64x2.splat(0);
  for (; g < vectors; g += 16, columns += 32) {
    const x = loadLanes(g, false);
    const a = f64x2.mul(low(x), low(x));
    const b = f64x2.mul(high(x), high(x));
    v128.store(columns, f64x2.add(v128.load(columns), a));
    v128.store(columns, f64x2.add(v128.load(columns, 16), b), 16);
    sum = f64x2.add(sum, f64x2.add(a, b));
  }
  let rest: f64 = 0;
  for (; g < last; g += 4, columns += 8) {
    const x = <f64>load<f32>(g);
    store<f64>(columns, load<f64>(columns) + x * x);
    rest += x * x;
  }
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1) + rest;
}

@inline
function moved(call: usize, place: usize, mean: f64): f32 {
  const next = <f32>(<f64>scalarOf(call, 0) * <f64>load<f32>(place) + <f64>scalarOf(call, 1) * mean);
  store<f32>(place, next);
  return next;
}

/** g ← g · row's factor · column's factor */
function direct(g: usize, columns: usize, factor: f32, width: i32): void {
  const f = f32x4.splat(factor);
  const vectors = wholeVectorsEnd(g, width);
  const last = end(g, width);
  for (; g < vectors; g += 16, columns += 16) {
    storeLanes(g, f32x4.mul(loadLanes(g, false), f32x4.mul(f, loadLanes(columns, false))), false);
  }
  for (; g < last; g += 4, columns += 4) {
    storeLanes(g, f32x4.mul(loadLanes(g, true), f32x4.mul(f, loadLanes(columns, true))), true);
  }
}
