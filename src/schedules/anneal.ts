/** From one rate to another over `length` ticks, and then there for good. A length of 0 is over at once. */
type Anneal = (from: number, to: number, ticks: number, length: number) => number;

/** The two ways from one rate to another, with p = min(ticks / length, 1): weights p and (1 − cos πp) / 2 on the second. */
export const anneal = {
  linear: (from, to, ticks, length) => between(from, to, progress(ticks, length)),
  cos: (from, to, ticks, length) => between(from, to, (1 - Math.cos(Math.PI * progress(ticks, length))) / 2),
} as const satisfies Record<string, Anneal>;

function progress(ticks: number, length: number): number {
  return ticks < length ? ticks / length : 1;
}

function between(from: number, to: number, weight: number): number {
  // Not from + (to − from) · weight, which may miss `to` by a rounding.
  return from * (1 - weight) + to * weight;
}
