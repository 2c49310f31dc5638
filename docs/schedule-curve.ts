const width = 640;
const height = 220;
const left = 56;
const right = width - 12;
const top = 12;
const bottom = height - 40;

const style = `
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  path { fill: none; stroke: #d0d7de }
  .rate { stroke: #0969da; stroke-width: 2 }
  .metric { stroke: #bc4c00; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 }
    path { stroke: #3d444d }
    .rate { stroke: #4493f8 }
    .metric { stroke: #db6d28 }
  }`;

/** Draws rates over their ticks as an SVG, each rate held until the next tick; a metric dashed, scaled to the same height. */
export function scheduleCurve(title: string, rates: readonly number[], metrics: readonly number[]): string {
  const most = Math.max(...rates);
  const x = (tick: number): string => rounded(left + ((right - left) * tick) / rates.length);
  const y = (rate: number): string => rounded(bottom - ((bottom - top) * rate) / most);
  const held = (values: readonly number[], scale: number): string =>
    `M${x(0)} ${y(values[0]! * scale)}${values.map((value, i) => `V${y(value * scale)}H${x(i + 1)}`).join('')}`;

  const lines = marks(most).map((rate) => `M${left} ${y(rate)}H${right}`);
  const labels = [
    ...marks(most).map((rate) => `<text x="${left - 6}" y="${Number(y(rate)) + 4}" text-anchor="end">${rate}</text>`),
    ...marks(rates.length).map((tick) => `<text x="${x(tick)}" y="${bottom + 16}" text-anchor="middle">${tick}</text>`),
    `<text x="${(left + right) / 2}" y="${height - 6}" text-anchor="middle">ticks</text>`,
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${title}</title>`,
    `<style>${style}\n</style>`,
    `<path d="${lines.join('')}"/>`,
    ...labels,
    ...(metrics.length === 0 ? [] : [`<path class="metric" d="${held(metrics, most / Math.max(...metrics))}"/>`]),
    `<path class="rate" d="${held(rates, 1)}"/>`,
    '</svg>',
    '',
  ].join('\n');
}

/** Round numbers from 0 to at most `most`: five or so. */
function marks(most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= most / 5)! * power;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

function rounded(pixels: number): string {
  return String(Number(pixels.toFixed(1)));
}
