import { readFileSync } from 'node:fs';

/** A field of an interface: its type as code has it, and what its docstring says. */
export interface Field {
  readonly name: string;
  readonly type: string;
  readonly text: string;
}

/** The paragraphs of an exported name's docstring, without its example. */
export function docstringOf(file: string, name: string): string[] {
  const source = sourceOf(file);
  const end = source.search(new RegExp(`\\*/\nexport \\w+ ${name}\\b`));
  if (end === -1) throw new Error(`${file}: expected a docstring of ${name}`);
  return proseOf(source.slice(source.lastIndexOf('/**', end), end));
}

/** The fields of an interface, in order, without those that it inherits. */
export function fieldsOf(file: string, name: string): Field[] {
  const body = new RegExp(`^export interface ${name}\\b[^{]*\\{\n([\\s\\S]*?)^\\}`, 'm').exec(sourceOf(file))?.[1];
  if (body === undefined) throw new Error(`${file}: expected an interface ${name}`);
  const fields = body.matchAll(/^(?: {2}(\/\*\*(?:(?!\*\/)[\s\S])*)\*\/\n)? {2}readonly (\w+)\??: ([\s\S]*?);\n(?! {3,})/gm);
  return [...fields].map(([, comment = '', field, type]) => ({
    name: field!,
    type: type!.replace(/\/\*\*[\s\S]*?\*\//g, '').replace(/\s+/g, ' '),
    text: proseOf(comment).join(' '),
  }));
}

/** The name of the file that has `name` as its main export. */
export function fileOf(name: string): string {
  return name.replace(/(?<!^)[A-Z]/g, (letter) => `-${letter}`).toLowerCase();
}

function sourceOf(file: string): string {
  return readFileSync(new URL(`../src/${file}`, import.meta.url), 'utf8');
}

function proseOf(comment: string): string[] {
  const prose = comment
    .replace('/**', '')
    .replace(/@example[\s\S]*/, '')
    .replace(/^\s*\* ?/gm, '')
    .replace(/\{@link (\w+)\}/g, '`$1`');
  return prose.split(/\n\s*\n/).flatMap((paragraph) => paragraph.trim().replaceAll('\n', ' ') || []);
}
