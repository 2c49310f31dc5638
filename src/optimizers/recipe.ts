import type { Accumulated, Operation } from '../pending.ts';
import { type LearningRate, scheduleOf } from '../schedules/from-config.ts';
import type { RateConfig } from '../schedules/schedule.ts';
import type { OutlierOptions } from './outliers.ts';

/** What a scan was set up with, as plain data: enough to set up another, or to tell what differs. */
export interface Recipe {
  /** The optimizer's public name: `momentum`. */
  readonly optimizer: string;
  /** All that its results depend on, defaults filled in. Of a rate that is no plain data there is the `baseLr`. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** Stages in front of a scan, in their order: the name, and what it was given. */
export type StageRecipe = [stage: string, given: unknown];

// They change no bit of the weights.
const withoutEffect = new Set(['rejections', 'maxRejectionsInARow', 'threads']);

/** Writes down what an optimizer was called with. */
export function recipeOf(optimizer: string, options: Readonly<Record<string, unknown>>): Recipe {
  const kept = Object.entries(options).filter(([name, value]) => value !== undefined && hasEffect(name, value));
  return { optimizer, options: Object.fromEntries(kept.map(([name, value]) => [name, plain(name, value)])) };
}

/** Writes down the stages that a batch came through, in their order. */
export function stagesOf(operations: readonly Operation[]): StageRecipe[] {
  const merged = operations.findLastIndex(({ op }) => op === 'accumulate');
  // Of the operations before a merge, those that were done to its parts are no longer pending.
  const before = merged === -1 ? [] : stagesOf((operations[merged] as Accumulated).asked);
  return [...before, ...operations.slice(Math.max(0, merged)).map(stageOf)];
}

function stageOf(operation: Operation): StageRecipe {
  switch (operation.op) {
    case 'clipByGlobalNorm':
      return [operation.op, operation.maxNorm.setting];
    case 'clipByValue':
      return [operation.op, operation.limit.setting];
    case 'addDecayedWeights':
      return [operation.op, operation.decay.setting];
    case 'staleness':
      return [operation.op, operation.policy];
    case 'accumulate':
      return [operation.op, { size: operation.size, applyAtEnd: operation.applyAtEnd }];
  }
}

/** All in which another recipe differs. */
export function recipeDifferences(was: Recipe, is: Recipe): string[] {
  if (was.optimizer !== is.optimizer) return [`the optimizer was ${was.optimizer}, and is ${is.optimizer}`];
  const names = new Set([...Object.keys(was.options), ...Object.keys(is.options)]);
  return [...names].flatMap((name) => {
    const [before, now] = [inOrder(was.options[name]), inOrder(is.options[name])];
    return before === now ? [] : [`${name} was ${before}, and is ${now}`];
  });
}

/** In what other stages differ, or nothing. */
export function stageDifferences(was: readonly StageRecipe[], is: readonly StageRecipe[]): string[] {
  const [before, now] = [was, is].map((stages) => stages.map(([stage, given]) => `${stage}(${inOrder(given)})`).join(' → '));
  return before === now ? [] : [`the stages in front were ${before || 'none'}, and are ${now || 'none'}`];
}

function hasEffect(name: string, value: unknown): boolean {
  if (name === 'outliers') return (value as OutlierOptions).policy === 'reject';
  return !withoutEffect.has(name);
}

function plain(name: string, value: unknown): unknown {
  if (name === 'lr') return plainRate(value as LearningRate);
  if (name === 'groups') {
    return (value as readonly { lr?: LearningRate }[]).map((group) =>
      group.lr === undefined ? group : { ...group, lr: plainRate(group.lr) },
    );
  }
  if (name === 'average') {
    const { into: _, ...average } = value as { into: unknown };
    return average;
  }
  return value;
}

function plainRate(lr: LearningRate): RateConfig | { readonly baseLr: number } {
  const { config, baseLr } = scheduleOf(lr);
  return config ?? { baseLr };
}

/** JSON whose keys are in order, so that equal data is equal text. */
function inOrder(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
