import * as v from 'valibot';
import { RxgradError } from './errors.ts';

/**
 * Checks options against their schema and fills in defaults. Fails with the option's path, what it expected and what it got:
 * of what `isSecret` says yes to by its path, no more than the type.
 */
export function parseOptions<S extends v.GenericSchema>(
  schema: S,
  options: unknown,
  where: string,
  isSecret: (path: string) => boolean = () => false,
): v.InferOutput<S> {
  const result = v.safeParse(schema, options, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  throw new RxgradError('invalidOption', {
    option: path ? `${where}: ${path}` : where,
    expected: expectationOf(issue, path),
    got: isSecret(path ?? '') ? kindOf(issue.input) : issue.received,
  });
}

function kindOf(value: unknown): string {
  if (value === undefined || value === null || value === '') return 'none';
  return Array.isArray(value) ? 'an array' : `what is of type ${typeof value}`;
}

/** Checks what concerns more than one option. */
export function expectOption(met: boolean, option: string, expected: string, got: unknown): asserts met {
  if (!met) throw new RxgradError('invalidOption', { option, expected, got: String(got) });
}

function expectationOf({ message, expected }: v.BaseIssue<unknown>, path: string | null): string {
  // A message of the schema's own says it in words; valibot's begin like this.
  if (!message.startsWith('Invalid ') || !expected) return message;
  if (expected === 'never') return 'no such option';
  return expected === `"${path?.split('.').at(-1)}"` ? 'a value' : expected;
}

/** Any finite number. */
export const finite = v.pipe(v.number(), v.finite());
/** A finite number above 0. */
export const positive = v.pipe(v.number(), v.finite(), v.gtValue(0));
/** A finite number of at least 0. */
export const nonNegative = v.pipe(v.number(), v.finite(), v.minValue(0));
/** A whole number of at least 1. */
export const count = v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(1));
/** A number in [0, 1): a momentum or a decay rate of moments. */
export const fraction = v.pipe(v.number(), v.minValue(0), v.ltValue(1));
