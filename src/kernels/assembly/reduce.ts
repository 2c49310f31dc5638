import { end, load, wholeVectorsEnd } from './lanes';

@inline
function squaresLow(x: v128): v128 {
  const low = f64x2.promote_low_f32x4(x);
  return f64x2.mul(low, low);
}

@inline
function high(x: v128): v128 {
  return i8x16.shuffle(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
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
    a = f64x2.add(a, squaresLow(x));
    b = f64x2.add(b, squaresLow(high(x)));
    c = f64x2.add(c, squaresLow(y));
    d = f64x2.add(d, squaresLow(high(y)));
    address += 32;
  }
  while (address < vectors) {
    const x = v128.load(address);
    a = f64x2.add(a, squaresLow(x));
    b = f64x2.add(b, squaresLow(high(x)));
    address += 16;
  }
  while (address < last) {
    a = f64x2.add(a, squaresLow(load(address, true)));
    address += 4;
  }
  const sum = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  return f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
}
