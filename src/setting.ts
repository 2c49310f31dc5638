import * as v from 'valibot';
import { parseOptions } from './options.ts';
import { wholeName } from './part-name.ts';

/**
 * A number for every parameter, or numbers by name or pattern (`*` stands for any characters), of which the first that
 * matches counts: `{ '*.bias': 0, '*': 1e-4 }`.
 */
export type Setting = number | Readonly<Record<string, number>>;

/** A setting, looked up by parameter. */
export interface PerParameter {
  /** As it was given. */
  readonly setting: Setting;
  /** The number of all parameters, where it is one. */
  readonly uniform: number | null;
  /** Names and patterns in it, so that one that matches nothing can be found. */
  readonly patterns: readonly string[];
  of(name: string): number;
}

type NumberSchema = v.GenericSchema<number>;

/** Checks a setting. Parameters that nothing matches get `otherwise`. */
export function parseSetting(schema: NumberSchema, setting: Setting, where: string, otherwise: number): PerParameter {
  const parsed =
    typeof setting === 'object' && setting !== null
      ? parseOptions(v.record(v.string(), schema), setting, where)
      : parseOptions(schema, setting, where);
  if (typeof parsed === 'number') return { setting: parsed, uniform: parsed, patterns: [], of: () => parsed };
  const entries = Object.entries(parsed).map(([pattern, value]) => [matcher(pattern), value] as const);
  const known = new Map<string, number>();
  return {
    setting: parsed,
    uniform: null,
    patterns: Object.keys(parsed),
    of(name) {
      let value = known.get(name);
      if (value === undefined) {
        value = entries.find(([matches]) => matches(name))?.[1] ?? otherwise;
        known.set(name, value);
      }
      return value;
    },
  };
}

/** Tells whether a name is the pattern's: `*` stands for any characters. Rows of a parameter go by its name. */
export function matcher(pattern: string): (name: string) => boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.+?()[\]{}|]/g, '\\$&'));
  const expression = new RegExp(`^${parts.join('.*')}$`, 's');
  return (name) => name === pattern || expression.test(wholeName(name));
}
