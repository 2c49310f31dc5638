import { end, load, store, wholeVectorsEnd } from './lanes';
import { prologue } from './prologue';

@inline
function sgdAt(
  w: usize, out: usize, g: usize,
  s: v128, low: v128, high: v128, d: v128, l: v128, decayed: bool, single: bool,
): void {
  const theta = load(w, single);
  const gradient = prologue(load(g, single), theta, s, low, high, d, decayed);
  store(out, f32x4.sub(theta, f32x4.mul(l, gradient)), single);
}

@inline
function sgdRange(w: usize, out: usize, g: usize, length: i32, scale: f32, limit: f32, decay: f32, lr: f32, decayed: bool): void {
  const s = f32x4.splat(scale);
  const low = f32x4.splat(-limit);
  const high = f32x4.splat(limit);
  const d = f32x4.splat(decay);
  const l = f32x4.splat(lr);
  const vectors = wholeVectorsEnd(w, length);
  const last = end(w, length);
  for (; w < vectors; w += 16, out += 16, g += 16) sgdAt(w, out, g, s, low, high, d, l, decayed, false);
  for (; w < last; w += 4, out += 4, g += 4) sgdAt(w, out, g, s, low, high, d, l, decayed, true);
}

/** θ ← θ − α g */
export function sgd(w: usize, out: usize, g: usize, length: i32, scale: f32, limit: f32, decay: f32, lr: f32): void {
  if (decay != 0) sgdRange(w, out, g, length, scale, limit, decay, lr, true);
  else sgdRange(w, out, g, length, scale, limit, decay, lr, false);
}

@inline
function momentumAt(
  w: usize, out: usize, g: usize, v: usize,
  s: v128, low: v128, high: v128, d: v128, m: v128, l: v128, decayed: bool, nesterov: bool, single: bool,
): void {
  const theta = load(w, single);
  const gradient = prologue(load(g, single), theta, s, low, high, d, decayed);
  const velocity = f32x4.add(f32x4.mul(m, load(v, single)), gradient);
  store(v, velocity, single);
  const direction = nesterov ? f32x4.add(gradient, f32x4.mul(m, velocity)) : velocity;
  store(out, f32x4.sub(theta, f32x4.mul(l, direction)), single);
}

@inline
function momentumRange(
  w: usize, out: usize, g: usize, v: usize, length: i32,
  scale: f32, limit: f32, decay: f32, mu: f32, lr: f32, decayed: bool, nesterov: bool,
): void {
  const s = f32x4.splat(scale);
  const low = f32x4.splat(-limit);
  const high = f32x4.splat(limit);
  const d = f32x4.splat(decay);
  const m = f32x4.splat(mu);
  const l = f32x4.splat(lr);
  const vectors = wholeVectorsEnd(w, length);
  const last = end(w, length);
  for (; w < vectors; w += 16, out += 16, g += 16, v += 16) {
    momentumAt(w, out, g, v, s, low, high, d, m, l, decayed, nesterov, false);
  }
  for (; w < last; w += 4, out += 4, g += 4, v += 4) {
    momentumAt(w, out, g, v, s, low, high, d, m, l, decayed, nesterov, true);
  }
}

/** v ← μ v + g; θ ← θ − α v */
export function momentum(
  w: usize, out: usize, g: usize, v: usize, length: i32,
  scale: f32, limit: f32, decay: f32, mu: f32, lr: f32,
): void {
  if (decay != 0) momentumRange(w, out, g, v, length, scale, limit, decay, mu, lr, true, false);
  else momentumRange(w, out, g, v, length, scale, limit, decay, mu, lr, false, false);
}

/** v ← μ v + g; θ ← θ − α (g + μ v) */
export function momentumNesterov(
  w: usize, out: usize, g: usize, v: usize, length: i32,
  scale: f32, limit: f32, decay: f32, mu: f32, lr: f32,
): void {
  if (decay != 0) momentumRange(w, out, g, v, length, scale, limit, decay, mu, lr, true, true);
  else momentumRange(w, out, g, v, length, scale, limit, decay, mu, lr, false, true);
}
