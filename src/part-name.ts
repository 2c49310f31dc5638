const ROWS = /^(.+)\[\d+:\d+\]$/s;

/** The name of some rows of a parameter, from one up to another that is not among them: `emb[0:1000]`. */
export function partName(parameter: string, from: number, to: number): string {
  return `${parameter}[${from}:${to}]`;
}

/** The parameter that a name is of: its own, or that of which it names rows. */
export function wholeName(name: string): string {
  return name.endsWith(']') ? (ROWS.exec(name)?.[1] ?? name) : name;
}
