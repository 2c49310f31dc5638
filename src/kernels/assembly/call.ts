// Made by the build from where a call has its parts.
import { ARRAYS, BAD, G, LR, OUT, ROWS, SCALARS, SUMS, W, WIDTH } from './words';

@inline
function pointerAt(call: usize, word: i32): usize {
  return <usize>load<u32>(call + ((<usize>word) << 2));
}

@inline
export function weightsOf(call: usize): usize {
  return pointerAt(call, W);
}

@inline
export function outOf(call: usize): usize {
  return pointerAt(call, OUT);
}

@inline
export function gradientOf(call: usize): usize {
  return pointerAt(call, G);
}

@inline
export function sumsOf(call: usize): usize {
  return pointerAt(call, SUMS);
}

@inline
export function widthOf(call: usize): i32 {
  return load<i32>(call + ((<usize>WIDTH) << 2));
}

@inline
export function arrayOf(call: usize, index: i32): usize {
  return pointerAt(call, ARRAYS + index);
}

/** Notes that new weights are not finite. */
@inline
export function noteBad(call: usize): void {
  store<u32>(call + ((<usize>BAD) << 2), 1);
}

@inline
export function rateOf(call: usize): f32 {
  return load<f32>(call + ((<usize>LR) << 2));
}

@inline
export function scalarOf(call: usize, index: i32): f32 {
  return load<f32>(call + ((<usize>(SCALARS + index)) << 2));
}

/** The rank, where a kernel that needs the shape finds it; the dims lie behind it. */
@inline
export function rankOf(call: usize): i32 {
  return load<i32>(pointerAt(call, ROWS));
}

@inline
export function dimOf(call: usize, axis: i32): i32 {
  return load<i32>(pointerAt(call, ROWS) + ((<usize>(axis + 1)) << 2));
}
