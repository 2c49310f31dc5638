import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import type { ColumnArray, OnceState } from '../events.ts';
import { onceStateOf } from '../once.ts';
import { finite, parseOptions } from '../options.ts';
import type { LogFacts, Positions } from '../reached.ts';
import { type Recipe, recipeDifferences } from './recipe.ts';

const historySchema = v.object({
  versions: v.array(v.number()),
  /** Parameter, version, and the numbers of the rows that are kept of it. */
  rows: v.array(v.tuple([v.string(), v.number(), v.array(v.number())])),
});

/** What is kept of old weights beside their tensors. */
export type HistoryFacts = v.InferOutput<typeof historySchema>;

/** What a scan keeps beside its tensors, as plain data. Metrics are text: JSON has no NaN. */
const scanFactsSchema = v.object({
  rule: v.string(),
  steps: v.number(),
  /** How often each parameter was stepped. All that is listed by parameter is in the order of the state's names. */
  counts: v.array(v.number()),
  /** Where there is an average: how many steps of each parameter are in it. */
  averaged: v.optional(v.array(v.number())),
  /** Where delay is compensated. */
  history: v.optional(historySchema),
  /** Where outliers are looked for: the logarithms of the last norms. */
  norms: v.optional(v.array(finite)),
  epochs: v.number(),
  once: v.object({
    epoch: v.number(),
    /** Of the columns of workers. */
    partitions: v.optional(v.array(v.nullable(v.tuple([v.string(), v.number()]))), []),
    /** Of older files, which have no columns. */
    sequences: v.optional(v.array(v.tuple([v.string(), v.number()]))),
  }),
  /** The next offset by topic and partition. */
  positions: v.optional(v.array(v.tuple([v.string(), v.number(), v.number()])), []),
  /** What tells the log that they are of. */
  log: v.optional(
    v.object({
      newestMs: v.optional(v.nullable(finite)),
      topics: v.array(v.tuple([v.string(), v.string()])),
      last: v.array(v.tuple([v.string(), v.number(), v.number(), v.number(), v.number()])),
    }),
  ),
  schedules: v.array(v.record(v.string(), v.number())),
  /** For each parameter the number of its schedule, and −1 where it is frozen. */
  groups: v.array(v.number()),
  metrics: v.array(v.tuple([v.string(), v.string()])),
  /** Where a schedule looks at whichever metric is reported: the one that was. */
  watched: v.optional(v.string()),
  recipe: v.optional(v.object({ optimizer: v.string(), options: v.record(v.string(), v.unknown()) })),
  /** Stages in front: those that the last batch came through. */
  stages: v.optional(v.array(v.tuple([v.string(), v.unknown()]))),
});

export type ScanFacts = v.InferOutput<typeof scanFactsSchema>;
/** The part of it that is the stepper's. */
export type StepperFacts = Pick<ScanFacts, 'steps' | 'counts' | 'averaged' | 'history' | 'norms' | 'stages'>;
/** The part of it that is the rates'. */
export type RatesFacts = Pick<ScanFacts, 'epochs' | 'schedules' | 'metrics' | 'watched'>;

/** What a scan is made for. */
export interface ScanShape {
  readonly rule: string;
  readonly names: readonly string[];
  readonly groups: readonly number[];
  readonly recipe: Recipe;
}

/** Checks what another scan kept. */
export function parseScanFacts(kept: unknown): ScanFacts {
  return parseOptions(scanFactsSchema, kept, 'state dict');
}

const partialSchema = v.partial(scanFactsSchema);

/** As {@link parseScanFacts}, of a state that no scan may have run on yet. */
export function parsePartialFacts(kept: unknown, where: string): v.InferOutput<typeof partialSchema> {
  return parseOptions(partialSchema, kept, where);
}

/** What was seen, from facts and the arrays beside them. */
export function seenOf(
  { once, positions = [] }: { readonly once?: ScanFacts['once'] | undefined; readonly positions?: Positions | undefined },
  arrays: Readonly<Record<string, ColumnArray>>,
): OnceState | undefined {
  return once && onceStateOf(once, arrays, positions);
}

/** The place in the log of a state that no scan has run on yet, or null where one has. */
export function placeBefore(
  kept: Readonly<Record<string, unknown>>,
): { readonly positions: Positions; readonly log?: LogFacts | undefined } | null {
  if ('rule' in kept) return null;
  const { positions = [], log } = parsePartialFacts(kept, 'state dict');
  return { positions, log };
}

/**
 * The same facts, in the order of other parameters: of those that the state does not know, none were stepped. Fails where the state
 * does not list as many as it has names.
 */
export function inOrderOf(facts: ScanFacts, names: readonly string[], kept: readonly string[]): ScanFacts {
  for (const [fact, list] of Object.entries({ counts: facts.counts, groups: facts.groups, averaged: facts.averaged ?? kept })) {
    if (list.length === kept.length) continue;
    const expected = `${fact} of its ${kept.length} parameters`;
    throw new RxgradError('invalidCheckpoint', { where: 'state dict', expected, got: `${list.length}` });
  }
  const placeOf = new Map(kept.map((name, place) => [name, place]));
  const places = names.map((name) => placeOf.get(name) ?? -1);
  return {
    ...facts,
    counts: places.map((place) => facts.counts[place] ?? 0),
    groups: places.map((place) => facts.groups[place] ?? 0),
    ...(facts.averaged ? { averaged: places.map((place) => facts.averaged![place] ?? 0) } : {}),
  };
}

/**
 * All in which a scan is made for something else than the one that kept some facts, which are in its order; where `exact`, its
 * options too. `kept` names the parameters of the state.
 */
export function differencesOf(
  facts: ScanFacts,
  { rule, names, groups, recipe }: ScanShape,
  kept: ReadonlySet<string>,
  exact: boolean,
): string[] {
  const own = new Set(names);
  return [
    ...(facts.rule === rule ? [] : [`the state is of ${facts.rule}, the scan of ${rule}`]),
    ...names.filter((name) => !kept.has(name)).map((name) => `the state knows no "${name}"`),
    ...[...kept].filter((name) => !own.has(name)).map((name) => `the state is of "${name}", too`),
    ...names.flatMap((name, i) => {
      const [was, is] = [facts.groups[i], groups[i]];
      return was === is || !kept.has(name) ? [] : [`"${name}" is ${inWords(was!)} in the state, ${inWords(is!)} in the scan`];
    }),
    ...(exact && facts.recipe && facts.rule === rule ? recipeDifferences(facts.recipe, recipe) : []),
  ];
}

function inWords(group: number): string {
  if (group === -1) return 'frozen';
  return group === 0 ? 'stepped at the rate of all' : `stepped at rate ${group} of those that groups have`;
}
