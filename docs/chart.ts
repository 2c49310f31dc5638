/** Round numbers from 0 to at most `most`: five or so. */
export function marks(most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= most / 5)! * power;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

export function rounded(pixels: number): string {
  return String(Number(pixels.toFixed(1)));
}

/** Where the area of a chart lies in its picture. */
export const area = { width: 640, height: 220, left: 56, right: 628, top: 12, bottom: 180 } as const;

/** Colours of text and lines on light pages and dark ones, and of what else a chart has: a class and its rule, light and dark. */
export function styleOf(rules: Readonly<Record<string, readonly [light: string, dark: string]>>): string {
  const of = (shade: 0 | 1): string[] => Object.entries(rules).map(([name, shades]) => `  .${name} { ${shades[shade]} }`);
  return [
    '',
    '  text { font: 12px system-ui, sans-serif; fill: #57606a }',
    '  path { fill: none; stroke: #d0d7de }',
    ...of(0),
    '  @media (prefers-color-scheme: dark) {',
    '    text { fill: #9198a1 }',
    '    path { stroke: #3d444d }',
    ...of(1).map((rule) => `  ${rule}`),
    '  }',
  ].join('\n');
}
