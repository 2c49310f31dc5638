import { mkdirSync, writeFileSync } from 'node:fs';
import { machine } from './machine.ts';
import { median, pairedRatio, spread } from './statistics.ts';

/** A line of a benchmark: what was measured, over which rounds, and how it relates to the line it is compared with. */
export interface Row {
  readonly what: string;
  readonly median: number;
  readonly spread: number;
  readonly best: number;
  readonly rounds: number;
  /** What {@link ratio} compares with. */
  readonly against?: string;
  /** Median over the rounds of this line divided by that one. */
  readonly ratio?: number;
}

export interface Table {
  readonly title: string;
  readonly unit: string;
  readonly rows: readonly Row[];
}

/** What a figure should be, and whether it was so in this run. */
export interface Aim {
  readonly what: string;
  readonly limit: string;
  readonly got: number;
  readonly met: boolean;
}

export interface Report {
  readonly name: string;
  readonly measures: string;
  readonly tables: readonly Table[];
  readonly aims: readonly Aim[];
  /** Lines that could not be measured, each with its reason. */
  readonly notRun: readonly string[];
}

/** A line without a ratio. The best round is the least, of rates the greatest. */
export function rowOf(what: string, values: readonly number[], best = Math.min): Row {
  return { what, median: median(values), spread: spread(values), best: best(...values), rounds: values.length };
}

export interface TableOptions {
  readonly title: string;
  readonly unit: string;
  /** The line that the others are compared with, round by round. */
  readonly reference: string;
  /** Default 1. */
  readonly divisor?: number;
  /** Default `Math.min`. */
  readonly best?: typeof Math.min;
}

/** A line for each of the contestants, whose rounds were the same. */
export function tableOf(
  values: Readonly<Record<string, readonly number[]>>,
  { title, unit, reference, divisor = 1, best = Math.min }: TableOptions,
): Table {
  const rows = Object.entries(values).map(([what, ofRounds]): Row => {
    const scaled = ofRounds.map((value) => value / divisor);
    const row = rowOf(what, scaled, best);
    return what === reference ? row : { ...row, against: reference, ratio: pairedRatio(ofRounds, values[reference]!) };
  });
  return { title, unit, rows };
}

export function atMost(what: string, limit: number, got: number): Aim {
  return { what, limit: `≤ ${limit}`, got, met: got <= limit };
}

export function atLeast(what: string, limit: number, got: number): Aim {
  return { what, limit: `≥ ${limit}`, got, met: got >= limit };
}

/** Prints a report for people, and writes it to `bench/results/<name>.json`. */
export function publish(report: Report): void {
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL(`${report.name}.json`, folder), `${JSON.stringify({ machine: machine(), ...report }, null, 2)}\n`);
  console.log(`\n${report.name}: ${report.measures}`);
  for (const table of report.tables) console.log(`\n${textOf(table)}`);
  for (const reason of report.notRun) console.log(`\nnot run: ${reason}`);
  console.log();
  for (const { what, limit, got, met } of report.aims)
    console.log(`${met ? 'met   ' : 'MISSED'}  ${what}: ${round(got)} (${limit})`);
}

function textOf({ title, unit, rows }: Table): string {
  const head = [title, `median ${unit}`, '±', `best ${unit}`, 'rounds', 'ratio', 'against'];
  const body = rows.map((row) => [
    row.what,
    round(row.median),
    round(row.spread),
    round(row.best),
    String(row.rounds),
    row.ratio === undefined ? '' : round(row.ratio),
    row.against ?? '',
  ]);
  const lines = [head, ...body];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const left = (column: number): boolean => column === 0 || column === head.length - 1;
  return lines
    .map((line) => line.map((cell, i) => (left(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '))
    .map((line) => line.trimEnd())
    .join('\n');
}

function round(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return value.toPrecision(3);
}
