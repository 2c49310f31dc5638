import type { Field } from './docstrings.ts';
import { table, written } from './markdown.ts';

/** The part of valibot's schemas that options are made of. */
export interface Schema {
  readonly type: string;
  readonly default?: unknown;
  readonly wrapped?: Schema;
  readonly item?: Schema;
  readonly items?: readonly Schema[];
  readonly options?: readonly unknown[];
  readonly requirement?: unknown;
  readonly message?: unknown;
  readonly pipe?: readonly Schema[];
}

/** An option as its schema has it. */
export interface Option {
  readonly name: string;
  readonly takes: string;
  /** Its default. */
  readonly value: unknown;
  readonly required: boolean;
}

/** The options of a schema's entries. `opaque` is what those take whose schema looks at nothing. */
export function optionsOf(entries: Readonly<Record<string, Schema>>, opaque: string): Option[] {
  return Object.entries(entries).map(([name, schema]) => ({
    name,
    takes: kindOf(schema, opaque),
    value: schema.default,
    required: schema.wrapped === undefined,
  }));
}

function optionTable(options: readonly Option[]): string[] {
  return table(
    ['option', 'takes', 'default'],
    options.map((option) => [`\`${option.name}\``, option.takes, defaultOf(option)]),
  );
}

/** How the section of something with options begins: what it does, and a table of the options. */
export function sectionHead(title: string, text: string, options: readonly Option[]): string[] {
  return [`## ${title}`, '', withoutDefaults(title, text, options), '', ...optionTable(options), ''];
}

/** A docstring without the sentence on its defaults, which a table shows in its place. Fails where it is not the schemas'. */
export function withoutDefaults(where: string, text: string, options: readonly Option[]): string {
  const defaults = options.filter(({ value }) => value !== undefined);
  if (defaults.length === 0) return text;
  const values = defaults.map(({ name, value }) => `${name} ${written(value)}`);
  const sentence = ` Default${values.length === 1 ? '' : 's'}: ${values.join(', ')}.`;
  if (!text.endsWith(sentence)) throw new Error(`${where}: expected its docstring to say "${sentence.trim()}", got "${text}"`);
  return text.slice(0, -sentence.length);
}

/**
 * A table of an interface's fields. A default comes from the field's docstring or from the schema; fails where both have one
 * and they differ. `types` says what a type is, for fields that say no more.
 */
export function fieldTable(
  fields: readonly Field[],
  entries: Readonly<Record<string, Schema>>,
  types: Readonly<Record<string, string>> = {},
): string[] {
  const rows = fields.map(({ name, type, text }) => {
    const [, says = '', told] = /^(.*?) ?(?:\bDefault:? (.*)\.)?$/.exec(text)!;
    const schema = entries[name];
    const value = schema?.default;
    const checked = schema ? defaultOf({ value, required: schema.wrapped === undefined }) : 'none';
    if (told !== undefined && value !== undefined && told !== checked) {
      throw new Error(`${name}: expected its docstring to say "Default: ${checked}.", got "${text}"`);
    }
    return [`\`${name}\``, `\`${type}\``, says || (types[type] ?? ''), told ?? checked];
  });
  return table(['option', 'type', 'what it is', 'default'], rows);
}

function defaultOf({ value, required }: Pick<Option, 'value' | 'required'>): string {
  if (required) return 'must be given';
  return value === undefined || (Array.isArray(value) && value.length === 0) ? 'none' : written(value);
}

function kindOf(schema: Schema, opaque: string): string {
  if (schema.type === 'nullable') return `${kindOf(schema.wrapped!, opaque)}, or \`null\``;
  if (schema.wrapped) return kindOf(schema.wrapped, opaque);
  const [first = schema, ...actions] = schema.pipe ?? [];
  const whole = actions.some(({ type }) => type === 'safe_integer') ? 'whole ' : '';
  const noun = nouns[first.type]?.(first, opaque) ?? String(first.message ?? opaque);
  return [whole + noun, ...actions.flatMap((action) => limits[action.type]?.(action) ?? String(action.message))].join(', ');
}

const nouns: Readonly<Record<string, (schema: Schema, opaque: string) => string>> = {
  number: () => 'number',
  boolean: () => '`true` or `false`',
  string: () => 'text',
  picklist: ({ options }) => options!.map((option) => `\`${option}\``).join(', '),
  array: ({ item }, opaque) => `list, each a ${kindOf(item!, opaque)}`,
  strict_tuple: ({ items }, opaque) => `list of ${items!.length}, each a ${kindOf(items![0]!, opaque)}`,
};

const limits: Readonly<Record<string, (action: Schema) => string | string[]>> = {
  finite: () => [],
  safe_integer: () => [],
  readonly: () => [],
  gt_value: ({ requirement }) => `above ${requirement}`,
  lt_value: ({ requirement }) => `below ${requirement}`,
  min_value: ({ requirement }) => `at least ${requirement}`,
  max_value: ({ requirement }) => `at most ${requirement}`,
};
