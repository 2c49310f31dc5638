import { end, storeLanes } from './lanes';

/**
 * Four halves in the low 16 bits of each lane, as float32. Those below 2⁻¹⁴ are made of an integer instead of a float32 that
 * is itself subnormal: processors are slow with such.
 */
@inline
function fromHalves(h: v128): v128 {
  const sign = i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16);
  const size = v128.and(h, i32x4.splat(0x7fff));
  const small = f32x4.mul(f32x4.convert_i32x4_s(size), f32x4.splat(<f32>(1.0 / 16777216)));
  // The exponent's bias is 127 instead of 15; the largest one stands for what is not finite in both.
  const unbiased = i32x4.add(i32x4.shl(size, 13), i32x4.splat(112 << 23));
  const large = i32x4.add(unbiased, v128.and(i32x4.gt_s(size, i32x4.splat(0x7bff)), i32x4.splat(112 << 23)));
  return v128.or(sign, v128.bitselect(small, large, i32x4.lt_s(size, i32x4.splat(0x0400))));
}

/**
 * IEEE 754 halves to float32, exactly. Eight at a time where none is below 2⁻¹⁴ but for zeros: the upper and the lower halves of
 * the results are made apart, with twice as many lanes.
 */
export function decodeF16(from: usize, to: usize, length: i32): void {
  const eights = end(to, length & ~7);
  const vectors = end(to, length & ~3);
  const last = end(to, length);
  for (; to < eights; to += 32, from += 16) {
    const h = v128.load(from);
    const size = v128.and(h, i16x8.splat(0x7fff));
    if (v128.any_true(i16x8.lt_u(i16x8.sub(size, i16x8.splat(1)), i16x8.splat(0x03ff)))) {
      storeLanes(to, fromHalves(v128.load16x4_u(from)), false);
      storeLanes(to + 16, fromHalves(v128.load16x4_u(from + 8)), false);
      continue;
    }
    const bias = v128.and(i16x8.ne(size, i16x8.splat(0)), i16x8.splat(112 << 7));
    const notFinite = v128.and(i16x8.gt_s(size, i16x8.splat(0x7bff)), i16x8.splat(112 << 7));
    const unsigned = i16x8.add(i16x8.add(i16x8.shr_u(size, 3), bias), notFinite);
    const upper = v128.or(unsigned, v128.and(h, i16x8.splat(<i16>0x8000)));
    const lower = i16x8.shl(h, 13);
    v128.store(to, v128.shuffle<i16>(lower, upper, 0, 8, 1, 9, 2, 10, 3, 11));
    v128.store(to + 16, v128.shuffle<i16>(lower, upper, 4, 12, 5, 13, 6, 14, 7, 15));
  }
  for (; to < vectors; to += 16, from += 8) storeLanes(to, fromHalves(v128.load16x4_u(from)), false);
  for (; to < last; to += 4, from += 2) storeLanes(to, fromHalves(i32x4.splat(<i32>load<u16>(from))), true);
}

/** The upper halves of float32 numbers to float32, exactly. */
export function decodeBF16(from: usize, to: usize, length: i32): void {
  const vectors = end(to, length & ~3);
  const last = end(to, length);
  for (; to < vectors; to += 16, from += 8) storeLanes(to, i32x4.shl(v128.load16x4_u(from), 16), false);
  for (; to < last; to += 4, from += 2) storeLanes(to, i32x4.splat((<i32>load<u16>(from)) << 16), true);
}

/** Signed bytes times a factor, rounded once. */
export function decodeI8(from: usize, to: usize, length: i32, scale: f32): void {
  const factor = f32x4.splat(scale);
  const vectors = end(to, length & ~3);
  const last = end(to, length);
  for (; to < vectors; to += 16, from += 4) {
    const x = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from)));
    storeLanes(to, f32x4.mul(f32x4.convert_i32x4_s(x), factor), false);
  }
  for (; to < last; to += 4, from += 1) {
    storeLanes(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.splat(<i32>load<i8>(from))), factor), true);
  }
}

/** 64-bit integers to the nearest of 32 bits. */
export function decodeI64(from: usize, to: usize, length: i32): void {
  for (const last = end(to, length); to < last; to += 4, from += 8) {
    store<i32>(to, <i32>min<i64>(max<i64>(load<i64>(from), <i64>i32.MIN_VALUE), <i64>i32.MAX_VALUE));
  }
}
