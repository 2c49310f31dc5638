/**
 * One body serves whole vectors and the last one to three elements: `single` loads one element into lane 0 and leaves the
 * others zero, so the tail goes through the same instructions and gives the same bits.
 */
@inline
export function load(address: usize, single: bool): v128 {
  return single ? v128.load32_zero(address) : v128.load(address);
}

@inline
export function store(address: usize, value: v128, single: bool): void {
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
