const ROWS = /^(.+)\[(\d+):(\d+)\]$/s;

/** Some rows of a parameter, from one up to another that is not among them. */
export interface NamedRows {
  readonly parameter: string;
  readonly from: number;
  readonly to: number;
}

/** The name of some rows of a parameter: `emb[0:1000]`. */
export function partName(parameter: string, from: number, to: number): string {
  return `${parameter}[${from}:${to}]`;
}

/** The rows that a name is of, or null where it is that of a parameter. */
export function namedRows(name: string): NamedRows | null {
  const [, parameter, from, to] = (name.endsWith(']') && ROWS.exec(name)) || [];
  return parameter === undefined ? null : { parameter, from: Number(from), to: Number(to) };
}

/** The parameter that a name is of: its own, or that of which it names rows. */
export function wholeName(name: string): string {
  return namedRows(name)?.parameter ?? name;
}
