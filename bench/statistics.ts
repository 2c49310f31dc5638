/** The middle of some numbers: what noise on a shared machine moves least. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** How far numbers lie around their median: half the distance between the quartiles. */
export function spread(values: readonly number[]): number {
  return (quantile(values, 0.75) - quantile(values, 0.25)) / 2;
}

/** What a fraction of the numbers lies below, interpolated between neighbours. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = fraction * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)]!, sorted[Math.ceil(place)]!];
  return below + (above - below) * (place % 1);
}

/** The median of the ratios of values taken in the same round, where the machine was about equally busy for both. */
export function pairedRatio(values: readonly number[], others: readonly number[]): number {
  return median(values.map((value, round) => value / others[round]!));
}
