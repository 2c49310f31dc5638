import type { Observable, Observer } from 'rxjs';
import { isObservable } from 'rxjs';
import * as v from 'valibot';
import type { Loss } from '../autodiff/loss-gradients.ts';
import type { Labels } from '../autodiff/mlp-gradients.ts';
import type { Prediction } from '../inference/hot-swap-session.ts';
import type { Feeds } from '../inference/runner.ts';
import type { GateObserved } from '../observe/channels.ts';
import { count, expectOption, nonNegative, parseOptions, positive } from '../options.ts';
import { Parameters } from '../params/parameters.ts';

/** What was decided, and the numbers that it rests on. */
export type GateDecision = GateObserved;

/** Examples whose labels are known by now. */
export interface LabelledExamples<L = Labels> {
  readonly feeds: Feeds;
  readonly labels: L;
}

/** What predicts with any of its kept versions: a `HotSwapSession`. */
export interface Scored {
  readonly model: string;
  readonly params: Parameters;
  predict(feeds: Feeds, options: { readonly version: number }): Promise<Pick<Prediction, 'outputs'>>;
}

/** Losses of examples, one by one in their order; a single number is that of one example. */
export type ScoringLoss<L> = (outputs: Prediction['outputs'], labels: L) => number | ArrayLike<number>;

export interface GateOptions<L = Labels> {
  /** What serves. Its parameters are the ones that the scan steps, or their average. */
  readonly session: Scored;
  /** The stream's own examples, as their labels become known. This, or `holdOut`. */
  readonly labelled?: Observable<LabelledExamples<L>>;
  /** Examples that nobody learns from: each candidate is scored on them once, in random order. */
  readonly holdOut?: readonly LabelledExamples<L>[];
  /** A loss of logits, or a function of what the model puts out. */
  readonly loss: Loss | ScoringLoss<L>;
  /** Which output holds the logits. Default: the only one. */
  readonly output?: string;
  /** By how much a candidate's mean loss may be above another's: it is not worse then. */
  readonly margin: number;
  /** The chance, of each decision, that it is wrong: see the page on gates. Default 0.05. */
  readonly errorRate?: number;
  /** What losses are cut at. The smaller, the sooner a decision. Default 4. */
  readonly maxLoss?: number;
  /** Examples after which a candidate that is neither shown to be worse nor not worse is dropped. Default 10,000. */
  readonly maxExamples?: number;
  /** `empiricalBernstein` promises its error rate for any number of examples, `mixtureSprt` for many that are independent. Default: the first. */
  readonly test?: 'empiricalBernstein' | 'mixtureSprt';
  /** What lies between the beginnings of two trials, at least. Default: nothing. */
  readonly every?: { readonly versions?: number; readonly ms?: number };
  /** Gets every decision. */
  readonly decisions?: Partial<Observer<GateDecision>>;
  /** Messages of `labelled` that may wait to be scored; above it, the oldest go. Default 1024. */
  readonly maxWaiting?: number;
  /** Scorings that may fail in a row before the stream does. Default 10. */
  readonly maxFailuresInARow?: number;
  /** Of the order of `holdOut`. Default 42. */
  readonly seed?: number;
}

const hasParameters = (value: unknown): boolean => (value as Partial<Scored> | null)?.params instanceof Parameters;

const schema = v.pipe(
  v.strictObject({
    session: v.custom<Scored>(hasParameters, 'a session'),
    labelled: v.optional(v.custom<Observable<unknown>>(isObservable, 'an observable')),
    holdOut: v.optional(
      v.custom<readonly unknown[]>((value) => Array.isArray(value) && value.length > 0, 'an array of examples'),
    ),
    loss: v.union(
      [v.picklist(['bceWithLogits', 'crossEntropy']), v.custom<unknown>((value) => typeof value === 'function')],
      'bceWithLogits, crossEntropy or a function',
    ),
    output: v.optional(v.string()),
    margin: nonNegative,
    errorRate: v.optional(v.pipe(v.number(), v.gtValue(0), v.ltValue(0.5)), 0.05),
    maxLoss: v.optional(positive, 4),
    maxExamples: v.optional(count, 10_000),
    test: v.optional(v.picklist(['empiricalBernstein', 'mixtureSprt']), 'empiricalBernstein'),
    every: v.optional(v.strictObject({ versions: v.optional(count, 1), ms: v.optional(nonNegative, 0) }), {}),
    decisions: v.optional(
      v.custom<Partial<Observer<GateDecision>>>((value) => typeof value === 'object' && value !== null, 'an observer'),
    ),
    maxWaiting: v.optional(count, 1024),
    maxFailuresInARow: v.optional(count, 10),
    seed: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0)), 42),
  }),
  v.check(({ labelled, holdOut }) => (labelled === undefined) !== (holdOut === undefined), 'either labelled or holdOut'),
);

/** {@link GateOptions} with their defaults. */
export type ParsedGateOptions<L> = Omit<v.InferOutput<typeof schema>, 'labelled' | 'holdOut' | 'loss'> &
  Pick<GateOptions<L>, 'labelled' | 'holdOut' | 'loss'>;

export function parseGateOptions<L>(options: GateOptions<L>): ParsedGateOptions<L> {
  const parsed = parseOptions(schema, options, 'gate');
  const { margin, maxLoss } = parsed;
  expectOption(margin < maxLoss, 'gate: margin', `less than maxLoss (${maxLoss})`, margin);
  return parsed as ParsedGateOptions<L>;
}
