import type { Transport } from '../sources/transport.ts';
import type { Reporter } from './reporter.ts';
import type { TransportSettings } from './transport-settings.ts';

/** An option of a pipeline's own, beside those that every run has. */
export interface PipelineOption {
  /** As commander spells it: `--lr <rate>`, `--save <file>`, `--until-end`. */
  readonly flags: string;
  readonly summary: string;
  readonly default?: string | number;
  /** Reads it as a number: a whole one, or any. */
  readonly number?: 'whole' | 'any';
  readonly choices?: readonly string[];
  readonly required?: boolean;
}

export type PipelineOptions = Readonly<Record<string, string | number | boolean | undefined>>;

export interface PipelineContext {
  /** The log that the run was told to use. It is closed for the pipeline when that ends. */
  readonly transport: Transport;
  /** How the log was named, for threads that open it themselves. */
  readonly settings: TransportSettings;
  /** By name in camel case. */
  readonly options: PipelineOptions;
  readonly report: Reporter;
  /** Aborts when the user ends the run. */
  readonly signal: AbortSignal;
}

/**
 * What a pipeline module exports under the name `pipeline`; `rxgrad run FILE` runs it.
 *
 * @example
 * export const pipeline: Pipeline = {
 *   summary: 'Counts the gradients of a topic',
 *   options: [{ flags: '--topic <name>', summary: 'topic of the gradients', required: true }],
 *   async run({ transport, options }) {
 *     await lastValueFrom(fromTransport(transport, { topic: String(options.topic), until: 'end' }).pipe(tap(acknowledge), count(), tap(console.log)));
 *   },
 * };
 */
export interface Pipeline {
  readonly summary: string;
  readonly options?: readonly PipelineOption[];
  /** Resolves when the work is done, or soon after the signal aborts. */
  run(context: PipelineContext): Promise<void>;
}
