/**
 * One body serves whole vectors and the last one to three elements: `single` loads one element into lane 0 and leaves the
 * others zero, so the tail goes through the same instructions and gives the same bits.
 */
@inline
export function loadLanes(address: usize, single: bool): v128 {
  return single ? v128.load32_zero(address) : v128.load(address);
}

@inline
export function storeLanes(address: usize, value: v128, single: bool): void {
  if (single) v128.store32_lane(address, value, 0);
  else v128.store(address, value);
}

/** Behind the last whole vector. */
@inline
export function wholeVectorsEnd(address: usize, length: i32): usize {
  return address + ((<usize>(length & ~3)) << 2);
}

@inline
export function end(address: usize, length: i32): usize {
  return address + ((<usize>length) << 2);
}

/** Lanes 0 and 1 in float64. */
@inline
export function low(x: v128): v128 {
  return f64x2.promote_low_f32x4(x);
}

/** Lanes 2 and 3 in float64. */
@inline
export function high(x: v128): v128 {
  return f64x2.promote_low_f32x4(i8x16.shuffle(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
}

@inline
export function loadU32(address: usize): u32 {
  return load<u32>(address);
}

@inline
export function storeU32(address: usize, value: u32): void {
  store<u32>(address, value);
}

@inline
export function loadF32(address: usize): f32 {
  return load<f32>(address);
}

@inline
export function storeF64(address: usize, value: f64): void {
  store<f64>(address, value);
}
