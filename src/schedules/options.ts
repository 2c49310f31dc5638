import * as v from 'valibot';
import { count, positive } from '../options.ts';

/** The rate that a schedule scales. Default 1e-3. */
export const baseLr = v.optional(positive, 1e-3);
/** A number of ticks: whole, at least 0. */
export const duration = v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0));
/** A number in (0, 1). */
export const properFraction = v.pipe(v.number(), v.gtValue(0), v.ltValue(1));
/** Ticks at which something changes, each later than the one before. */
export const milestones = v.pipe(
  v.array(count),
  v.checkItems((tick, i, ticks) => i === 0 || tick > ticks[i - 1]!, 'more than the one before'),
);

type ReadonlyArrays<V> = V extends readonly (infer E)[] ? readonly E[] : V;
type ReadonlyOptions<O> = { readonly [K in keyof O]: ReadonlyArrays<O[K]> };
/** What a user gives for a schema. */
export type OptionsOf<S extends v.GenericSchema> = ReadonlyOptions<v.InferInput<S>>;
