/** A table, line by line. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(header), line(header.map(() => '---')), ...rows.map(line)];
}

/** A value as a table has it: as code does, without the quotes of a string that stands alone. */
export function written(value: unknown): string {
  return typeof value === 'string' ? value : code(value);
}

/** A value as code has it. */
export function code(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (value === 1 / 3) return '1/3';
  if (typeof value === 'number' && value > 0 && value < 0.005) return value.toExponential();
  if (Array.isArray(value)) return `[${value.map(code).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  const fields = Object.entries(value).map(([name, inner]) => field(name, code(inner)));
  return `{ ${fields.join(', ')} }`;
}

/** An object as code has it, with a line for each field, and for each object in a list. */
export function codeBlock(value: object): string {
  const lines = Object.entries(value).map(([name, inner]) => {
    const parts = Array.isArray(inner) && typeof inner[0] === 'object' ? inner : null;
    return `  ${field(name, parts ? `[\n${parts.map((part) => `    ${code(part)},\n`).join('')}  ]` : code(inner))},\n`;
  });
  return `{\n${lines.join('')}}`;
}

function field(name: string, value: string): string {
  return `${/^\w+$/.test(name) ? name : code(name)}: ${value}`;
}
