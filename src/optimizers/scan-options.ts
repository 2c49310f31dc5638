import * as v from 'valibot';
import type { LearningRate } from '../schedules/from-config.ts';
import { type AverageOptions, averageSchema } from './average.ts';
import { groupsSchema, type ParameterGroup } from './groups.ts';
import { type OutlierOptions, outliersSchema, type ParsedOutliers } from './outliers.ts';
import type { RejectionSink } from './rejections.ts';

/** What every scan takes beside its rule's own options. */
export interface ScanOptions {
  /** Default 1e-3. */
  readonly lr?: LearningRate;
  /** Whether rates change as epochs end, or with every step. Default: epoch. */
  readonly tickOn?: 'epoch' | 'step';
  /** Parameters with a rate of their own, or frozen. */
  readonly groups?: readonly ParameterGroup[];
  /** Gets every event that was left out, as `deadLetters` does. They are counted in the metrics in any case. */
  readonly rejections?: RejectionSink;
  /**
   * Bad events without a good batch between them, after which the stream fails (records that merely came twice do not
   * count). Default 1000.
   */
  readonly maxRejectionsInARow?: number;
  /**
   * Threads that run the kernels beside this one, which helps with short steps and stays free during long ones: 0 for none,
   * in place. Results are the same bits. Default: none for small models; from 524,288 parameters on all cores but one, four at
   * most.
   */
  readonly threads?: number;
  /** An average of the weights, to be served in their place. Default: none. */
  readonly average?: AverageOptions;
  /** What becomes of batches whose gradient norm is far above those before them. Default: they are applied. */
  readonly outliers?: OutlierOptions;
}

/** The schema of {@link ScanOptions}, to be spread into a rule's own. */
export const scanEntries = {
  lr: v.optional(
    v.custom<LearningRate>(() => true),
    1e-3,
  ),
  tickOn: v.optional(v.picklist(['epoch', 'step']), 'epoch'),
  groups: groupsSchema,
  rejections: v.optional(v.custom<RejectionSink>((value) => typeof value === 'object' && value !== null, 'an observer')),
  maxRejectionsInARow: v.optional(v.pipe(v.number(), v.minValue(1)), 1000),
  threads: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0), v.maxValue(64))),
  average: v.optional(averageSchema),
  outliers: v.optional(outliersSchema),
};

/** {@link ScanOptions} with their defaults. */
export interface ParsedScanOptions {
  readonly lr: LearningRate;
  readonly tickOn: 'epoch' | 'step';
  readonly groups: v.InferOutput<typeof groupsSchema>;
  readonly rejections?: RejectionSink | undefined;
  readonly maxRejectionsInARow: number;
  readonly threads?: number | undefined;
  readonly average?: v.InferOutput<typeof averageSchema> | undefined;
  readonly outliers?: ParsedOutliers | undefined;
}
