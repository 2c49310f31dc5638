import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { clipByValue, encodeEvent, GradientBatch, gradientBatch } from 'rxgrad';
import { firstValueFrom, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { EventDecoder } from '../../src/sources/codec.ts';
import { SafetensorsReader } from '../../src/sources/safetensors.ts';

type Dtype = NonNullable<NonNullable<Parameters<typeof encodeEvent>[1]>['dtype']>;

const delivery = { position: { topic: 'g', partition: 0, offset: 0 }, source: { done: () => {} } };

/** What arrives of a batch that is sent in a type. */
function arrived(batch: GradientBatch, dtype?: Dtype): GradientBatch {
  const { value, headers = {} } = encodeEvent(batch, dtype ? { dtype } : {});
  const event = new EventDecoder().decode({ offset: 0, key: null, value, headers, timestampMs: 0 }, delivery);
  if (!(event instanceof GradientBatch)) throw new Error(JSON.stringify(event));
  return event;
}

function sent(values: readonly number[], dtype: Dtype): Float32Array {
  return arrived(gradientBatch({ gradients: { w: Float32Array.from(values) } }), dtype).gradients.w!;
}

/** The nearest of some numbers in rising order; of two equally near ones the one at an even place. */
function nearestOf(numbers: Float64Array, x: number): number {
  let [low, high] = [0, numbers.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (numbers[middle]! <= x) low = middle;
    else high = middle;
  }
  const [below, above] = [x - numbers[low]!, numbers[high]! - x];
  return below < above || (below === above && low % 2 === 0) ? numbers[low]! : numbers[high]!;
}

/** All positive numbers of a format from 0 on, and as the last one what would follow, had it no end. */
function formatOf(exponentBits: number, fractionBits: number): Float64Array {
  const bias = 2 ** (exponentBits - 1) - 1;
  return Float64Array.from({ length: (2 ** exponentBits - 1) * 2 ** fractionBits + 1 }, (_, bits) => {
    const exponent = bits >> fractionBits;
    const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
    return exponent === 0 ? 2 ** (1 - bias) * fraction : 2 ** (exponent - bias) * (1 + fraction);
  });
}

const formats = [
  ['F16', formatOf(5, 10)],
  ['BF16', formatOf(8, 7)],
] as const;

describe.each(formats)('%s', (dtype, numbers) => {
  const end = numbers.at(-1)!;
  const rounded = (x: number): number => {
    const size = nearestOf(numbers, Math.min(Math.abs(x), end));
    return Math.fround((size === end ? Number.POSITIVE_INFINITY : size) * (x < 0 || Object.is(x, -0) ? -1 : 1));
  };

  it('gives back every number of its own', () => {
    const own = Float32Array.from(numbers.subarray(0, -1));
    expect(sent([...own], dtype)).toEqual(own);
  });

  it('rounds what lies in the middle to even, and what lies beside it to its side', () => {
    const float = new Float32Array(1);
    const bits = new Uint32Array(float.buffer);
    const given = [...numbers.subarray(0, -1)].flatMap((x, i) => {
      float[0] = (x + numbers[i + 1]!) / 2;
      const middle = float[0];
      bits[0]! -= 1;
      const below = float[0];
      bits[0]! += 2;
      return [middle, below, float[0]].filter(Number.isFinite);
    });
    expect(sent(given, dtype)).toEqual(Float32Array.from(given, rounded));
  });

  it('rounds any float32 to the nearest', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { maxLength: 20 }), (given) => {
        expect(sent(given, dtype)).toEqual(Float32Array.from(given, rounded));
      }),
    );
  });

  it('keeps what is not finite as such', () => {
    const given = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    expect([...sent(given, dtype)]).toEqual(given);
  });
});

describe('I8', () => {
  it('is at most half a step off, a step being the largest size / 127', () => {
    const values = fc.array(fc.float({ noNaN: true, min: -1e6, max: 1e6 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(values, (given) => {
        const step = Math.max(...given.map(Math.abs)) / 127;
        sent(given, 'I8').forEach((x, i) => {
          expect(Math.abs(x - given[i]!)).toBeLessThanOrEqual(step * 0.5001 + 1e-42);
        });
      }),
    );
  });

  it('rounds ties to even', () => {
    expect([...sent([127, 0.5, 1.5, -0.5, -2.5, -127], 'I8')]).toEqual([127, 0, 2, 0, -2, -127]);
  });

  it('of zeros is zeros; what is not finite does not become finite', () => {
    expect([...sent([0, -0, 0], 'I8')]).toEqual([0, 0, 0]);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(arrived(gradientBatch({ gradients: { w: Float32Array.of(1, bad) } }), 'I8').norm()).toBeNaN();
    }
  });

  it('has a factor for each tensor', () => {
    const { gradients } = arrived(gradientBatch({ gradients: { a: Float32Array.of(127e3), b: Float32Array.of(1.27) } }), 'I8');
    expect(gradients.a![0]).toBeCloseTo(127e3, 1);
    expect(gradients.b![0]).toBeCloseTo(1.27, 6);
  });
});

describe('rows', () => {
  const values = Float32Array.of(1, -2, 3, 4, 0.5, -127);
  const batch = gradientBatch({
    gradients: { d: { dims: [1], data: Float32Array.of(127) }, emb: { indices: [9, 2, 9], values, dims: [3, 2] } },
  });

  it.each([undefined, 'F32', 'F16', 'BF16'] as const)('arrive as they were sent (%s)', (dtype) => {
    const got = arrived(batch, dtype);
    expect(got.rows).toEqual(batch.rows);
    expect(got.gradients).toEqual(batch.gradients);
    expect(got.norm()).toBe(batch.norm());
  });

  it('arrive in bytes with a factor', () => {
    const got = arrived(batch, 'I8');
    expect(got.rows.emb!.indices).toEqual(Int32Array.of(9, 2));
    [1.5, -129, 3, 4].forEach((x, i) => {
      expect(Math.abs(got.rows.emb!.values[i]! - x)).toBeLessThanOrEqual((129 / 127) * 0.5001);
    });
  });

  it('carry what stages did', async () => {
    const clipped = (await firstValueFrom(of(batch).pipe(clipByValue(2)))) as GradientBatch;
    expect(arrived(clipped).rows.emb!.values).toEqual(Float32Array.of(1.5, -2, 2, 2));
  });

  it('may be none', () => {
    const none = gradientBatch({ gradients: { emb: { indices: [], values: new Float32Array(), dims: [0, 4] } } });
    for (const dtype of ['F32', 'F16', 'I8'] as const) expect(arrived(none, dtype).rows).toEqual(none.rows);
  });
});

describe('a name', () => {
  it('that parts of another tensor need is refused', () => {
    const batch = gradientBatch({ gradients: { w: Float32Array.of(1), 'w.scale': Float32Array.of(2) } });
    expect(arrived(batch, 'F16').gradients).toEqual(batch.gradients);
    expect(() => encodeEvent(batch, { dtype: 'I8' })).toThrow('safetensors "w.scale": expected a name for each tensor');
  });
});

it('refuses another dtype', () => {
  const batch = gradientBatch({ gradients: { w: Float32Array.of(1) } });
  expect(() => encodeEvent(batch, { dtype: 'F64' as never })).toThrow('encodeEvent: dtype: expected');
});

it('reads what the Python library writes', () => {
  const file = readFileSync(new URL('./fixtures/sparse-from-python.safetensors', import.meta.url));
  const read = new SafetensorsReader().read(file);
  if (typeof read === 'function') throw read('file');
  const batch = new GradientBatch({ ...read, facts: {}, delivery: null }, null);
  expect(batch.gradients).toEqual({
    half: Float32Array.of(1, -0.5, 65_504, 2 ** -24, 2 ** -14, -0),
    brain: Float32Array.of(1, -3.140625, (1 + 22 / 128) * 2 ** 126),
    bytes: Float32Array.of(63.5, -64, 2, 0, 0.25, -0.75),
    'lone.values': Float32Array.of(1, 2),
    'lone.indices': Float32Array.of(3),
    'lone.scale': Float32Array.of(4),
  });
  expect(batch.rows).toEqual({
    table: { indices: Int32Array.of(7, 2), values: Float32Array.of(1.5, 2.25, 3, 4) },
    tiny: { indices: Int32Array.of(4), values: Float32Array.of(1.25, -2.5, 3.75) },
  });
});
