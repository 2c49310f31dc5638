/**
 * What every rule does to a gradient first: clip(g · scale, ±limit) + decay · w. A scale of 1 and an infinite limit change
 * no bit; decay 0 would turn −0 into +0, hence `decayed`, which the compiler folds away.
 */
@inline
export function prologue(g: v128, w: v128, scale: v128, low: v128, high: v128, decay: v128, decayed: bool): v128 {
  const clipped = f32x4.pmin(f32x4.pmax(f32x4.mul(g, scale), low), high);
  return decayed ? f32x4.add(clipped, f32x4.mul(decay, w)) : clipped;
}
