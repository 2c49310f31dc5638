const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The bits of a float32 as those of an IEEE 754 binary16 (1 bit of sign, 5 of exponent, 10 of fraction), rounded to even. */
export function halfBitsOf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00;
  // From 65520 on the nearest half is infinite.
  if (size >= 0x477ff000) return sign | 0x7c00;
  if (size >= 0x38800000) return sign | ((size - 0x38000000 + 0x0fff + ((size >> 13) & 1)) >> 13);
  // Below 2⁻¹⁴, halves are multiples of 2⁻²⁴, as are the float32 numbers from ½ on: the sum rounds as the half has to.
  floatBits[0] = size;
  float[0] = float[0]! + 0.5;
  return sign | (floatBits[0] - 0x3f000000);
}

/** The upper half of a float32's bits (bfloat16), rounded to even. */
export function bfloatBitsOf(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x0040;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The number that the bits of a half stand for. */
export function halfOf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** The number that the bits of a bfloat16 stand for. */
export function bfloatOf(bits: number): number {
  floatBits[0] = bits << 16;
  return float[0]!;
}
