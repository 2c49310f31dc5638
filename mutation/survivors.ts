import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { equivalents } from './equivalents.ts';

/** A change that Stryker tried, and what became of it. */
export interface Mutant {
  readonly fileName: string;
  readonly mutatorName: string;
  readonly replacement: string;
  readonly status: string;
  readonly location: { readonly start: { readonly line: number; readonly column: number } };
}

export interface Found {
  /** Mutants that a test reaches, without those that equal the original. */
  readonly covered: number;
  readonly noticed: number;
  readonly survived: readonly Mutant[];
  readonly equivalent: number;
  readonly uncovered: number;
}

export function scored(mutants: readonly Mutant[]): Found {
  const here = mutants.map((mutant) => ({ ...mutant, fileName: relative(process.cwd(), mutant.fileName) }));
  const noticed = here.filter(({ status }) => status === 'Killed' || status === 'Timeout').length;
  const all = here.filter(({ status }) => status === 'Survived');
  const survived = all.filter((mutant) => !isEquivalent(mutant));
  return {
    covered: noticed + survived.length,
    noticed,
    survived,
    equivalent: all.length - survived.length,
    uncovered: here.filter(({ status }) => status === 'NoCoverage').length,
  };
}

function isEquivalent({ fileName, location, replacement }: Mutant): boolean {
  const line = readFileSync(fileName, 'utf8').split('\n')[location.start.line - 1]!;
  return equivalents.some(
    ({ file, code, becomes }) => file === fileName && line.includes(code) && (becomes === undefined || becomes === replacement),
  );
}
