import { mkdirSync, writeFileSync } from 'node:fs';
import { accuracyChart } from '../docs/accuracy-chart.ts';
import { type GatedTraining, gatedTraining, type Moment } from './gated-training.ts';
import { atLeast, atMost, type Report, rowOf, type Table } from './report.ts';
import { sequentialTests } from './sequential-tests.ts';

const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
const gate = { margin: 0.01, maxExamples: 5000 };
const setting = { batches: 1600, batchSize: 32, delay: 8, concepts: 1, flipped: [600, 900] } as const;
/** Batches over which the accuracy that was served is averaged. */
const window = 32;
const every = 8;

interface Run {
  readonly gated: GatedTraining;
  readonly plain: GatedTraining;
}

/** What is served while a trainer gets flipped labels for a while, behind a gate and without one. */
export default async function gateBench(): Promise<Report> {
  const runs: Run[] = [];
  const drifting: Run[] = [];
  for (const seed of seeds) {
    runs.push(await both({ ...setting, seed }));
    drifting.push(await both({ ...setting, seed, concepts: 4, flipped: [0, 0] }));
  }
  draw(runs[0]!);

  const falls = { gated: runs.map(({ gated }) => fall(gated)), plain: runs.map(({ plain }) => fall(plain)) };
  const wrong = runs.flatMap(({ gated }) => wrongPromotions(gated));
  const statistics = sequentialTests();
  return {
    name: 'gate',
    measures: `SEA in ${setting.batches} batches of ${setting.batchSize}, labels of batches ${setting.flipped.join(' to ')} flipped for the trainer; a round is a seed`,
    tables: [
      {
        title: 'accuracy on 10,000 held-out events below the best version that was live before',
        unit: 'points',
        rows: [rowOf('with a gate, at most', falls.gated), rowOf('without one, at most', falls.plain)],
      },
      {
        title: 'accuracy served',
        unit: '%',
        rows: [
          rowOf(
            'with a gate',
            runs.map(({ gated }) => served(gated)),
            Math.max,
          ),
          rowOf(
            'without one',
            runs.map(({ plain }) => served(plain)),
            Math.max,
          ),
          rowOf(
            'four concepts, no label flipped: with a gate',
            drifting.map(({ gated }) => served(gated)),
            Math.max,
          ),
          rowOf(
            'four concepts, no label flipped: without one',
            drifting.map(({ plain }) => served(plain)),
            Math.max,
          ),
        ],
      },
      decisions(runs),
      ...statistics.tables,
    ],
    aims: [
      atMost(
        'points that the accuracy served falls below the best kept version, with a gate, of any seed',
        2,
        Math.max(...falls.gated),
      ),
      atLeast('the same without a gate, of any seed', 2, Math.min(...falls.plain)),
      atMost('share of promotions of a version that is worse by more than the margin', 0.05, share(wrong)),
      atMost('share of wrong promotions at the margin, empiricalBernstein, of any differences', 0.05, statistics.worst),
    ],
    notRun: [],
  };
}

async function both(options: Omit<Parameters<typeof gatedTraining>[0], 'gate'>): Promise<Run> {
  return { gated: await gatedTraining({ ...options, gate }), plain: await gatedTraining({ ...options, gate: null }) };
}

/** Points that the live version was below the best one before, at most. */
function fall({ moments }: GatedTraining): number {
  return 100 * Math.max(...moments.map(({ best, heldOut }) => best - heldOut));
}

function served({ moments }: GatedTraining): number {
  return (100 * moments.reduce((sum, moment) => sum + moment.served, 0)) / moments.length;
}

/** Of each promotion, whether the version is worse than the one before by more than the margin. */
function wrongPromotions({ moments, decisions }: GatedTraining): boolean[] {
  const accuracies = new Map(moments.map(({ live, heldOut }) => [live, heldOut]));
  return decisions
    .filter(({ decision, version }) => decision === 'promoted' && accuracies.has(version))
    .map(({ version, against }) => accuracies.get(against)! - accuracies.get(version)! > gate.margin);
}

function share(flags: readonly boolean[]): number {
  return flags.filter(Boolean).length / flags.length;
}

function decisions(runs: readonly Run[]): Table {
  const kinds = ['promoted', 'confirmed', 'rejected', 'undecided', 'rolledBack'] as const;
  const counted = kinds.map((kind) =>
    rowOf(
      kind,
      runs.map(({ gated }) => gated.decisions.filter(({ decision }) => decision === kind).length),
      Math.max,
    ),
  );
  return { title: 'decisions', unit: 'a run', rows: counted };
}

function draw({ gated, plain }: Run): void {
  const points = (of: (moments: readonly Moment[]) => number, { moments }: GatedTraining): number[] =>
    Array.from({ length: Math.floor(moments.length / every) }, (_, i) => of(moments.slice(0, (i + 1) * every)));
  const recent = (moments: readonly Moment[]): number => {
    const last = moments.slice(-window);
    return last.reduce((sum, moment) => sum + moment.served, 0) / last.length;
  };
  const picture = accuracyChart({
    title: 'Accuracy that is served, with a gate and without, while labels are flipped for the trainer',
    unit: `batches of ${setting.batchSize} events; means of ${window} batches`,
    every,
    span: { from: setting.flipped[0], to: setting.flipped[1], name: 'labels flipped' },
    lines: [
      { name: 'with a gate', shares: points(recent, gated) },
      { name: 'without one', shares: points(recent, plain) },
      { name: 'best kept version, held out', shares: points((moments) => moments.at(-1)!.best, gated) },
    ],
  });
  mkdirSync(new URL('../docs/serving/', import.meta.url), { recursive: true });
  writeFileSync(new URL('../docs/serving/gate.svg', import.meta.url), picture);
}
