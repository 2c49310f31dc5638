/** Counts the milestones that `ticks` has reached. */
export function passed(milestones: readonly number[], ticks: number): number {
  return milestones.filter((milestone) => milestone <= ticks).length;
}
