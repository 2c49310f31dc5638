import { end, load, store, wholeVectorsEnd } from './lanes';
import { prologue } from './prologue';

@inline
function adamAt(
  w: usize, out: usize, g: usize, m: usize, n: usize, x: usize,
  s: v128, low: v128, high: v128, d: v128,
  b1: v128, c1: v128, b2: v128, c2: v128, correction: v128, eps: v128, l: v128,
  decayed: bool, amsgrad: bool, single: bool,
): void {
  const theta = load(w, single);
  const gradient = prologue(load(g, single), theta, s, low, high, d, decayed);
  const mean = f32x4.add(f32x4.mul(b1, load(m, single)), f32x4.mul(c1, gradient));
  const square = f32x4.add(f32x4.mul(b2, load(n, single)), f32x4.mul(c2, f32x4.mul(gradient, gradient)));
  store(m, mean, single);
  store(n, square, single);
  let corrected = f32x4.mul(square, correction);
  if (amsgrad) {
    corrected = f32x4.max(load(x, single), corrected);
    store(x, corrected, single);
  }
  const direction = f32x4.div(mean, f32x4.add(f32x4.sqrt(corrected), eps));
  store(out, f32x4.sub(theta, f32x4.mul(l, direction)), single);
}

@inline
function adamRange(
  w: usize, out: usize, g: usize, m: usize, n: usize, x: usize, length: i32,
  scale: f32, limit: f32, decay: f32, beta1: f32, rest1: f32, beta2: f32, rest2: f32, correction: f32, epsilon: f32, rate: f32,
  decayed: bool, amsgrad: bool,
): void {
  const s = f32x4.splat(scale);
  const low = f32x4.splat(-limit);
  const high = f32x4.splat(limit);
  const d = f32x4.splat(decay);
  const b1 = f32x4.splat(beta1);
  const c1 = f32x4.splat(rest1);
  const b2 = f32x4.splat(beta2);
  const c2 = f32x4.splat(rest2);
  const k = f32x4.splat(correction);
  const eps = f32x4.splat(epsilon);
  const l = f32x4.splat(rate);
  const vectors = wholeVectorsEnd(w, length);
  const last = end(w, length);
  for (; w < vectors; w += 16, out += 16, g += 16, m += 16, n += 16, x += 16) {
    adamAt(w, out, g, m, n, x, s, low, high, d, b1, c1, b2, c2, k, eps, l, decayed, amsgrad, false);
  }
  for (; w < last; w += 4, out += 4, g += 4, m += 4, n += 4, x += 4) {
    adamAt(w, out, g, m, n, x, s, low, high, d, b1, c1, b2, c2, k, eps, l, decayed, amsgrad, true);
  }
}

/**
 * m ← β₁ m + (1 − β₁) g; n ← β₂ n + (1 − β₂) g²; θ ← θ − rate · m / (√(n · correction) + ε), where
 * rate = α / (1 − β₁ᵗ) and correction = 1 / (1 − β₂ᵗ).
 */
export function adam(
  w: usize, out: usize, g: usize, m: usize, n: usize, length: i32,
  scale: f32, limit: f32, decay: f32, beta1: f32, rest1: f32, beta2: f32, rest2: f32, correction: f32, epsilon: f32, rate: f32,
): void {
  if (decay != 0) {
    adamRange(w, out, g, m, n, n, length, scale, limit, decay, beta1, rest1, beta2, rest2, correction, epsilon, rate, true, false);
  } else {
    adamRange(w, out, g, m, n, n, length, scale, limit, decay, beta1, rest1, beta2, rest2, correction, epsilon, rate, false, false);
  }
}

/** As `adam`, with x ← max(x, n · correction) in the place of n · correction. */
export function amsgrad(
  w: usize, out: usize, g: usize, m: usize, n: usize, x: usize, length: i32,
  scale: f32, limit: f32, decay: f32, beta1: f32, rest1: f32, beta2: f32, rest2: f32, correction: f32, epsilon: f32, rate: f32,
): void {
  if (decay != 0) {
    adamRange(w, out, g, m, n, x, length, scale, limit, decay, beta1, rest1, beta2, rest2, correction, epsilon, rate, true, true);
  } else {
    adamRange(w, out, g, m, n, x, length, scale, limit, decay, beta1, rest1, beta2, rest2, correction, epsilon, rate, false, true);
  }
}
