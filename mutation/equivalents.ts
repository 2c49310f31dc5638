/** Mutants that no test can notice, since they do the same: by what the line holds, so that the list outlives edits beside it. */
export interface Equivalent {
  readonly file: string;
  /** What the line of the mutant has in it. */
  readonly code: string;
  /** What takes the place of a part of it; without: whatever does. */
  readonly becomes?: string;
  readonly reason: string;
}

export const equivalents: readonly Equivalent[] = [];
