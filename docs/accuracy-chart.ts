import { area, marks, rounded, styleOf } from './chart.ts';

const { width, height, left, right, top, bottom } = area;

const style = styleOf({
  first: ['stroke: #0969da; stroke-width: 2', 'stroke: #4493f8'],
  second: ['stroke: #bc4c00; stroke-width: 1.5', 'stroke: #db6d28'],
  third: ['stroke: #57606a; stroke-dasharray: 3 3', 'stroke: #9198a1'],
  span: ['fill: #bc4c00; fill-opacity: 0.1', 'fill: #db6d28; fill-opacity: 0.2'],
});
const classes = ['first', 'second', 'third'] as const;

export interface AccuracyChart {
  readonly title: string;
  /** What the horizontal axis counts, and how many of it lie between two values of a line. */
  readonly unit: string;
  readonly every: number;
  /** A span that is marked, and what it is. */
  readonly span: { readonly from: number; readonly to: number; readonly name: string };
  /** Up to three: shares from 0 to 1. */
  readonly lines: readonly { readonly name: string; readonly shares: readonly number[] }[];
}

/** Draws shares over a stream as an SVG. */
export function accuracyChart({ title, unit, every, span, lines }: AccuracyChart): string {
  const most = Math.max(...lines.map(({ shares }) => shares.length)) * every;
  const x = (at: number): string => rounded(left + ((right - left) * at) / most);
  const y = (share: number): string => rounded(bottom - (bottom - top) * share);
  const path = (shares: readonly number[]): string =>
    shares.map((share, i) => `${i === 0 ? 'M' : 'L'}${x((i + 1) * every)} ${y(share)}`).join('');
  const text = (at: string, height: number | string, anchor: string, of: string): string =>
    `<text x="${at}" y="${height}" text-anchor="${anchor}">${of}</text>`;
  const shares = [0, 0.25, 0.5, 0.75, 1];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height + 22}" role="img">`,
    `<title>${title}</title>`,
    `<style>${style}\n</style>`,
    `<rect class="span" x="${x(span.from)}" y="${top}" width="${rounded(Number(x(span.to)) - Number(x(span.from)))}" height="${bottom - top}"/>`,
    `<path d="${shares.map((share) => `M${left} ${y(share)}H${right}`).join('')}"/>`,
    ...shares.map((share) => text(String(left - 6), Number(y(share)) + 4, 'end', `${100 * share} %`)),
    ...marks(most).map((at) => text(x(at), bottom + 16, 'middle', at.toLocaleString('en'))),
    text(String((left + right) / 2), height - 6, 'middle', unit),
    text(x((span.from + span.to) / 2), top + 14, 'middle', span.name),
    ...lines.toReversed().map(({ shares }, i) => `<path class="${classes[lines.length - 1 - i]}" d="${path(shares)}"/>`),
    ...lines.flatMap(({ name }, i) => {
      const from = left + i * 190;
      return [
        `<path class="${classes[i]}" d="M${from} ${height + 10}h20"/>`,
        text(String(from + 26), height + 14, 'start', name),
      ];
    }),
    '</svg>',
    '',
  ].join('\n');
}
