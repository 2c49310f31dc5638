import { gradientOf, sumsOf, widthOf } from './call';
import { end, high, loadLanes, low, storeF64, wholeVectorsEnd } from './lanes';

@inline
function squared(x: v128): v128 {
  return f64x2.mul(x, x);
}

/**
 * Sum of squares in float64, in four fixed pairs of lanes. float32 squares cannot overflow float64, so the sum is finite
 * exactly when every element is.
 */
export function sumOfSquares(address: usize, length: i32): f64 {
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  let c = f64x2.splat(0);
  let d = f64x2.splat(0);
  const eights: usize = address + ((<usize>(length & ~7)) << 2);
  const vectors = wholeVectorsEnd(address, length);
  const last = end(address, length);
  while (address < eights) {
    const x = v128.load(address);
    const y = v128.load(address, 16);
    a = f64x2.add(a, squared(low(x)));
    b = f64x2.add(b, squared(high(x)));
    c = f64x2.add(c, squared(low(y)));
    d = f64x2.add(d, squared(high(y)));
    address += 32;
  }
  while (address < vectors) {
    const x = v128.load(address);
    a = f64x2.add(a, squared(low(x)));
    b = f64x2.add(b, squared(high(x)));
    address += 16;
  }
  while (address < last) {
    a = f64x2.add(a, squared(low(loadLanes(address, true))));
    address += 4;
  }
  const sum = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
}

/** The sums of squares of blocks of `width` elements each: float64 numbers, one after the other, at `sums`. */
export function squares(call: usize, begin: i32, stop: i32): void {
  const g = gradientOf(call);
  const block = widthOf(call);
  while (begin < stop) {
    const length = min<i32>(block, stop - begin);
    storeF64(sumsOf(call) + ((<usize>(begin / block)) << 3), sumOfSquares(g + ((<usize>begin) << 2), length));
    begin += length;
  }
}
