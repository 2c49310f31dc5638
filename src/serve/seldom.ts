const EVERY_MS = 10_000;

/** Counts what happens, and tells how often it has, not more than once in ten seconds. */
export function seldom(tell: (count: number) => void): () => void {
  let count = 0;
  let toldAt = Number.NEGATIVE_INFINITY;
  return () => {
    count += 1;
    if (performance.now() - toldAt < EVERY_MS) return;
    toldAt = performance.now();
    tell(count);
  };
}
