import { readFileSync, writeFileSync } from 'node:fs';
import type { Found } from './survivors.ts';

/** The share of covered mutants that each folder's tests have to notice. */
export const threshold = 0.85;

interface Score {
  readonly covered: number;
  readonly noticed: number;
  readonly equivalent: number;
  readonly uncovered: number;
  /** One in so many stretches of lines was mutated; 1 for all. */
  readonly oneIn: number;
  readonly seconds: number;
}

const file = new URL('./scores.json', import.meta.url);

/** Keeps a folder's figures in scores.json, which the repository holds. */
export function storeScore(
  folder: string,
  { covered, noticed, equivalent, uncovered }: Found,
  oneIn: number,
  seconds: number,
): void {
  const scores = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Score>;
  scores[folder] = { covered, noticed, equivalent, uncovered, oneIn, seconds };
  writeFileSync(file, `${JSON.stringify(scores, null, 2)}\n`);
}
