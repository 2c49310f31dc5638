import MersenneTwister from 'mersenne-twister';
import { adafactor, ftrl, gradientBatch, lookahead, Parameters, type TrainingEvent, type WeightsUpdate } from 'rxgrad';
import { from, type OperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';

/**
 * What the papers' formulas come to in float64, one parameter at a time. A reference is made for one parameter and steps it.
 */
type Reference = (dims: readonly number[], weights: readonly number[]) => (gradient: readonly number[], step: number) => number[];

const shapes: Readonly<Record<string, readonly number[]>> = { matrix: [5, 7], stack: [2, 3, 4], vector: [6], scalar: [] };
const STEPS = 25;

/** Runs both over the same gradients and returns the largest relative difference of any weight after any step. */
function difference(
  optimizer: (params: Parameters) => OperatorFunction<TrainingEvent, WeightsUpdate>,
  reference: Reference,
): number {
  const random = new MersenneTwister(7);
  const numbers = (dims: readonly number[], scale: number): number[] =>
    Array.from({ length: product(dims) }, () => Math.fround(scale * (2 * random.random() - 1)));
  const weights = Object.fromEntries(Object.entries(shapes).map(([name, dims]) => [name, numbers(dims, 2)]));
  const gradients = Array.from({ length: STEPS }, (_, i) =>
    Object.fromEntries(Object.entries(shapes).map(([name, dims]) => [name, numbers(dims, 1 + (i % 3))])),
  );
  const params = Parameters.create(
    Object.fromEntries(Object.entries(shapes).map(([name, dims]) => [name, { dims, data: weights[name]! }])),
  );
  const references = Object.entries(shapes).map(([name, dims]) => [name, reference(dims, weights[name]!)] as const);
  let largest = 0;
  let step = 0;
  from(gradients.map((values) => gradientBatch({ gradients: mapValues(values, (data) => Float32Array.from(data)) })))
    .pipe(optimizer(params))
    .subscribe(() => {
      step += 1;
      for (const [name, next] of references) {
        const { data } = params.get(name);
        for (const [i, expected] of next(gradients[step - 1]![name]!, step).entries()) {
          largest = Math.max(largest, Math.abs(data[i]! - expected) / Math.max(1, Math.abs(expected)));
        }
      }
    });
  expect(step).toBe(STEPS);
  return largest;
}

const product = (dims: readonly number[]): number => dims.reduce((all, dim) => all * dim, 1);
const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;
const rootMeanSquare = (values: readonly number[]): number => Math.sqrt(mean(values.map((x) => x * x)));
const mapValues = <A, B>(values: Readonly<Record<string, A>>, f: (value: A) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, f(value)]));

describe('FTRL-Proximal is algorithm 1 of McMahan et al.', () => {
  const reference =
    (alpha: number, beta: number, l1: number, l2: number): Reference =>
    (_, start) => {
      const z = start.map(() => 0);
      const n = start.map(() => 0);
      const w = [...start];
      return (gradient) => {
        for (const [i, g] of gradient.entries()) {
          const sigma = (Math.sqrt(n[i]! + g * g) - Math.sqrt(n[i]!)) / alpha;
          z[i] = z[i]! + g - sigma * w[i]!;
          n[i] = n[i]! + g * g;
          w[i] = Math.abs(z[i]!) <= l1 ? 0 : -(z[i]! - Math.sign(z[i]!) * l1) / ((beta + Math.sqrt(n[i]!)) / alpha + l2);
        }
        return w;
      };
    };

  it.each([{ lr: 0.1 }, { lr: 0.5, beta: 0.3, l1: 0.7, l2: 0.2 }, { lr: 0.05, beta: 0, l1: 0, l2: 1 }])('%o', (options) => {
    const { lr, beta = 1, l1 = 0, l2 = 0 } = options as { lr: number; beta?: number; l1?: number; l2?: number };
    expect(difference((params) => ftrl(params, options), reference(lr, beta, l1, l2))).toBeLessThan(1e-5);
  });

  it('makes weights that are exactly 0 where the evidence is below λ₁', () => {
    const params = Parameters.create({ w: { dims: [3] } });
    const batches = [[0.5, -2, 0]].map((w) => gradientBatch({ gradients: { w: Float32Array.from(w) } }));
    from(batches)
      .pipe(ftrl(params, { lr: 1, l1: 1, beta: 0 }))
      .subscribe();
    expect([...params.get('w').data]).toEqual([0, 0.5, 0]);
  });

  it('keeps the weights given with warmStart, but for what gradients say', () => {
    const start = Parameters.create({ w: { dims: [3], data: [2, -3, 0] } });
    const still = gradientBatch({ gradients: { w: new Float32Array(3) } });
    from([still, still])
      .pipe(ftrl(start, { lr: 0.1, l1: 0.5, l2: 0.25, warmStart: true }))
      .subscribe();
    expect([...start.get('w').data].map((x) => Math.round(1e5 * x) / 1e5)).toEqual([2, -3, 0]);
  });
});

describe('Adafactor is algorithms 4 and 5 of Shazeer and Stern', () => {
  interface Settings {
    readonly lr?: number;
    readonly beta1?: number;
    readonly weightDecay?: number;
    readonly clipThreshold?: number;
    readonly decayRate?: number;
    readonly factored?: boolean;
  }

  const reference =
    ({ lr, beta1, weightDecay = 0, clipThreshold = 1, decayRate = 0.8, factored = true }: Settings): Reference =>
    (dims, start) => {
      const [eps1, eps2] = [1e-30, 1e-3];
      const w = [...start];
      const m = start.map(() => 0);
      const [height, width] = dims.length >= 2 && factored ? dims.slice(-2) : [1, 0];
      const matrices = width ? start.length / (height! * width) : 0;
      const rows = Array.from({ length: matrices }, () => new Array<number>(height!).fill(0));
      const columns = Array.from({ length: matrices }, () => new Array<number>(width!).fill(0));
      const whole = start.map(() => 0);
      return (gradient, t) => {
        const rho = 1 - t ** -decayRate;
        const squares = gradient.map((g) => g * g + eps1);
        const move = (before: number, x: number): number => rho * before + (1 - rho) * x;
        const at = (k: number, i: number, j: number): number => (k * height! + i) * width! + j;
        const variance = [...whole];
        for (let k = 0; k < matrices; k++) {
          const matrix = (i: number, j: number): number => squares[at(k, i, j)]!;
          rows[k] = rows[k]!.map((r, i) => move(r, mean(columns[k]!.map((_, j) => matrix(i, j)))));
          columns[k] = columns[k]!.map((c, j) => move(c, mean(rows[k]!.map((_, i) => matrix(i, j)))));
          for (const [i, r] of rows[k]!.entries()) {
            for (const [j, c] of columns[k]!.entries()) variance[at(k, i, j)] = (r * c) / mean(rows[k]!);
          }
        }
        if (matrices === 0) for (const [i, x] of squares.entries()) variance[i] = whole[i] = move(whole[i]!, x);

        const u = gradient.map((g, i) => g / Math.sqrt(variance[i]!));
        const clip = Math.max(1, rootMeanSquare(u) / clipThreshold);
        const alpha = lr ?? Math.max(eps2, rootMeanSquare(w)) * Math.min(1e-2, 1 / Math.sqrt(t));
        for (const [i, x] of u.entries()) {
          const step = (alpha * x) / clip;
          m[i] = beta1 === undefined ? step : beta1 * m[i]! + (1 - beta1) * step;
          w[i] = w[i]! - alpha * weightDecay * w[i]! - m[i]!;
        }
        return w;
      };
    };

  it.each<Settings>([
    {},
    { lr: 0.05 },
    { beta1: 0.8 },
    { lr: 0.02, weightDecay: 0.1, clipThreshold: 0.5, decayRate: 0.6 },
    { factored: false },
  ])('%o', (options) => {
    expect(difference((params) => adafactor(params, options), reference(options))).toBeLessThan(1e-5);
  });
});

describe('Lookahead is algorithm 1 of Zhang et al.', () => {
  const reference =
    (lr: number, mu: number, syncPeriod: number, alpha: number): Reference =>
    (_, start) => {
      let slow = [...start];
      let fast = [...start];
      const velocity = start.map(() => 0);
      return (gradient, t) => {
        fast = fast.map((w, i) => {
          velocity[i] = mu * velocity[i]! + gradient[i]!;
          return w - lr * velocity[i]!;
        });
        if (t % syncPeriod === 0) {
          slow = slow.map((s, i) => s + alpha * (fast[i]! - s));
          fast = [...slow];
        }
        return fast;
      };
    };

  it.each([
    { lr: 0.05, momentum: 0.9, syncPeriod: 5, alpha: 0.5 },
    { lr: 0.1, momentum: 0, syncPeriod: 1, alpha: 0.3 },
    { lr: 0.02, momentum: 0.5, syncPeriod: 7, alpha: 1 },
  ])('%o', ({ lr, momentum, syncPeriod, alpha }) => {
    const baseOptimizer = { type: 'Momentum', lr, momentum } as const;
    expect(
      difference((params) => lookahead(params, { baseOptimizer, syncPeriod, alpha }), reference(lr, momentum, syncPeriod, alpha)),
    ).toBeLessThan(1e-5);
  });
});
