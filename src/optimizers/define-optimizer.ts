import type { OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import type { TrainingEvent } from '../events.ts';
import { nonNegative, parseOptions } from '../options.ts';
import type { Parameters } from '../params/parameters.ts';
import type { LearningRate } from '../schedules/from-config.ts';
import { type PerParameter, parseSetting, type Setting } from '../setting.ts';
import { matching } from './groups.ts';
import { type Recipe, recipeOf } from './recipe.ts';
import type { Rule } from './rule.ts';
import { scanWith } from './scan.ts';
import { type ParsedScanOptions, type ScanOptions, scanEntries } from './scan-options.ts';
import type { WeightsUpdate } from './weights-update.ts';

type Entries = v.ObjectEntries;
type Output<E extends Entries> = v.InferOutput<v.StrictObjectSchema<E, undefined>>;
type Input<E extends Entries> = v.InferInput<v.StrictObjectSchema<E, undefined>>;

/** An optimizer: its options beside those of every scan, with their defaults, and the rule that they make. */
interface Definition<E extends Entries> {
  /** The public function's name, for errors. */
  readonly name: string;
  /** The rate where none is given; default 1e-3. */
  readonly lr?: number;
  /** Decay where none is given, for a rule that decays by itself, behind its scaling (decoupled). */
  readonly ownDecay?: number;
  readonly entries: E;
  /** Also told whether a rate was given. */
  rule(options: Output<E>, lrGiven: boolean): Rule;
}

/** What the options of a call come to. */
interface Parsed {
  readonly rule: Rule;
  readonly weightDecay: PerParameter;
  readonly scan: ParsedScanOptions;
  readonly recipe: Recipe;
}

/** What an optimizer takes: the options of every scan and its own. */
type OptionsOf<E extends Entries> = ScanOptions & { readonly [O in keyof Input<E>]: Readonly<Input<E>[O]> };

/** An operator: gradient batches in, one update out for each that was applied. */
export interface Optimizer<O> {
  (params: Parameters, options?: O): OperatorFunction<TrainingEvent, WeightsUpdate>;
  /** What it was made of, its rate filled in. */
  readonly definition: Definition<Entries> & { readonly lr: number };
  /** The default of `weightDecay`, where the rule decays by itself. */
  readonly ownDecay: number | undefined;
  /** Checks options and makes the rule alone, for another to wrap. */
  parse(params: Parameters, options: unknown): Parsed;
}

export function defineOptimizer<const E extends Entries>(
  definition: Definition<E> & { readonly ownDecay: number },
): Optimizer<OptionsOf<E> & { readonly weightDecay?: Setting }>;
export function defineOptimizer<const E extends Entries>(definition: Definition<E>): Optimizer<OptionsOf<E>>;
/** Makes an optimizer of its definition. */
export function defineOptimizer<const E extends Entries>(definition: Definition<E>): Optimizer<OptionsOf<E>> {
  const { name, lr = 1e-3, ownDecay, entries } = definition;
  const any = v.custom<LearningRate & Setting>(() => true);
  const decayEntry = ownDecay === undefined ? {} : { weightDecay: v.optional(any, ownDecay) };
  const schema = v.strictObject({ ...scanEntries, lr: v.optional(any), ...decayEntry, ...entries });
  const parse = (params: Parameters, options: unknown): Parsed => {
    const given = parseOptions(schema, options, name) as Output<E> & Partial<ParsedScanOptions> & { weightDecay?: Setting };
    const weightDecay = parseSetting(nonNegative, given.weightDecay ?? 0, `${name}: weightDecay`, 0);
    for (const pattern of weightDecay.patterns) matching(params, pattern, `${name}: weightDecay`);
    const scan = { ...given, lr: given.lr === undefined ? lr : given.lr } as unknown as ParsedScanOptions;
    return { rule: definition.rule(given, given.lr !== undefined), weightDecay, scan, recipe: recipeOf(name, { ...scan }) };
  };
  const operator = (params: Parameters, options?: OptionsOf<E>) => {
    const { rule, weightDecay, scan, recipe } = parse(params, options ?? {});
    return scanWith(params, rule, scan, weightDecay, recipe);
  };
  return Object.assign(operator, { definition: { ...definition, lr }, ownDecay, parse });
}
