import { addScaled } from './elementwise';
import { end } from './lanes';

/** Whether each 32-bit integer is greater than the one before. */
export function isRising(address: usize, length: i32): bool {
  for (const last = end(address, length - 1); address < last; address += 4) {
    if (load<i32>(address) >= load<i32>(address, 4)) return false;
  }
  return true;
}

/**
 * Adds each row to the first one with its number and moves what is left together, in order; returns how many those are. The
 * table has `1 << bits` words, at least twice as many as there are rows: the place of a number, plus one. `multiplier` is odd and
 * drawn by chance, so that nobody can choose numbers that collide (Dietzfelbinger et al., "A Reliable Randomized Algorithm for
 * the Closest-Pair Problem", 1997); the result does not depend on it.
 */
export function addUpRows(numbers: usize, values: usize, count: i32, width: i32, table: usize, bits: i32, multiplier: u32): i32 {
  const stride = (<usize>width) << 2;
  const mask = (1 << bits) - 1;
  memory.fill(table, 0, (<usize>4) << bits);
  let next = 0;
  for (let i = 0; i < count; i++) {
    const number = load<u32>(end(numbers, i));
    const from = values + (<usize>i) * stride;
    let slot = <i32>((number * multiplier) >> (32 - bits));
    let place = load<i32>(end(table, slot)) - 1;
    while (place >= 0 && load<u32>(end(numbers, place)) != number) {
      slot = (slot + 1) & mask;
      place = load<i32>(end(table, slot)) - 1;
    }
    if (place >= 0) {
      addScaled(values + (<usize>place) * stride, from, width, 1);
      continue;
    }
    store<i32>(end(table, slot), next + 1);
    store<u32>(end(numbers, next), number);
    if (next != i) memory.copy(values + (<usize>next) * stride, from, stride);
    next++;
  }
  memory.fill(values + (<usize>next) * stride, 0, (<usize>(count - next)) * stride);
  return next;
}
