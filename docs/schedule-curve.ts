import { area, marks, rounded, styleOf } from './chart.ts';

const { width, height, left, right, top, bottom } = area;

const style = styleOf({
  rate: ['stroke: #0969da; stroke-width: 2', 'stroke: #4493f8'],
  metric: ['stroke: #bc4c00; stroke-dasharray: 3 3', 'stroke: #db6d28'],
});

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
