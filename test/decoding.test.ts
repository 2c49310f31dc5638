import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena } from '../src/kernels/arena.ts';
import { type ElementType, elementBytes, type TensorSpec, takeIn, tensorLayout } from '../src/payload.ts';

/** Takes a payload in that begins at an odd byte, and gives back its elements. */
function elementsOf(tensors: readonly TensorSpec[], payload: Uint8Array): { elements: Float32Array; sumOfSquares: number } {
  const arena = new Arena();
  const layout = tensorLayout(tensors, payload.byteLength);
  const address = arena.allocate(layout.roomBytes);
  const around = new Uint8Array(payload.byteLength + 1);
  around.set(payload, 1);
  const { sumOfSquares } = takeIn(arena, address, layout, around.subarray(1));
  return { elements: arena.floats(address, layout.elements).slice(), sumOfSquares };
}

const dense = (dtype: ElementType, length: number, more: Partial<TensorSpec> = {}): TensorSpec => ({
  name: 'w',
  dims: [length],
  dtype,
  begin: 0,
  length,
  ...more,
});

/** Every number of 16 bits, as a payload. */
const all16 = new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, bits) => bits).buffer);

/** IEEE 754: (−1)ˢ · 2ᵉ · 1.f, with the format's bits of exponent and fraction. */
function reference(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >> 15 === 0 ? 1 : -1;
  const largest = 2 ** exponentBits - 1;
  const exponent = (bits >> fractionBits) & largest;
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  if (exponent === largest) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  const bias = 2 ** (exponentBits - 1) - 1;
  return sign * (exponent === 0 ? 2 ** (1 - bias) * fraction : 2 ** (exponent - bias) * (1 + fraction));
}

describe('every number of 16 bits', () => {
  it.each([
    ['F16', 5, 10],
    ['BF16', 8, 7],
  ] as const)('as %s is what IEEE 754 says', (dtype, exponentBits, fractionBits) => {
    const { elements } = elementsOf([dense(dtype, 65_536)], all16);
    const expected = Float32Array.from({ length: 65_536 }, (_, bits) => reference(bits, exponentBits, fractionBits));
    const wrong = [...elements.keys()].filter((bits) => !Object.is(elements[bits], expected[bits]));
    expect(wrong).toEqual([]);
  });

  it('is the same beside any others (F16)', () => {
    const isSmall = (bits: number) => (bits & 0x7c00) === 0 && (bits & 0x03ff) !== 0;
    const { elements: whole } = elementsOf([dense('F16', 65_536)], all16);
    // An odd factor: each number once, far from those next to it.
    const mixed = Uint16Array.from({ length: 65_536 }, (_, i) => i * 40_503);
    for (const bits of [mixed, mixed.filter((bits) => !isSmall(bits))]) {
      const { elements } = elementsOf([dense('F16', bits.length)], new Uint8Array(bits.buffer));
      const wrong = bits.filter((number, i) => !Object.is(elements[i], whole[number]));
      expect(wrong).toEqual(new Uint16Array(0));
    }
  });

  it.each(['F16', 'BF16'] as const)('is the same in a tail of one to three (%s)', (dtype) => {
    const whole = elementsOf([dense(dtype, 65_536)], all16).elements;
    for (const length of [1, 2, 3, 65_533]) {
      const { elements } = elementsOf([dense(dtype, length)], all16.subarray(131_072 - 2 * length));
      expect(Buffer.compare(Buffer.from(elements.buffer), Buffer.from(whole.slice(65_536 - length).buffer))).toBe(0);
    }
  });
});

describe('signed bytes', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);

  it.each([[1], [0.1], [-3e-5], [1e-44], [0]])('are multiplied by the scale %d and rounded once', (scale) => {
    const payload = new Uint8Array([...new Uint8Array(Float32Array.of(scale).buffer), ...bytes, 255]);
    const { elements } = elementsOf([dense('I8', 257, { begin: 4, scale: { begin: 0, length: 1 } })], payload);
    const factor = Math.fround(scale);
    const expected = Float32Array.from([...new Int8Array(bytes.buffer), -1], (x) => x * factor);
    expect(elements).toEqual(expected);
  });

  it('may have a scale for each row', () => {
    const payload = new Uint8Array([...new Uint8Array(Float32Array.of(0.5, 2, -1).buffer), 1, 2, 3, 255, 5, 128]);
    const { elements } = elementsOf([dense('I8', 6, { dims: [3, 2], begin: 12, scale: { begin: 0, length: 3 } })], payload);
    expect([...elements]).toEqual([0.5, 1, 6, -2, -5, 128]);
  });
});

describe('a payload of several types', () => {
  it('has the sum of squares of its elements in float32, over blocks of all sizes', () => {
    const lengths = fc.constantFrom(0, 1, 5, 8191, 8192, 8193, 20_000);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom('F32', 'F16', 'BF16'), lengths), { minLength: 1, maxLength: 4 }), (parts) => {
        let begin = 0;
        const tensors = parts.map(([dtype, length], i) => {
          const tensor = dense(dtype, length, { name: `w${i}`, begin });
          begin += length * elementBytes[dtype];
          return tensor;
        });
        // 0x3c3c is a number near 1 in each of the types.
        const { elements, sumOfSquares } = elementsOf(tensors, new Uint8Array(begin).fill(0x3c));
        const plain = elementsOf([dense('F32', elements.length)], new Uint8Array(elements.buffer));
        expect(sumOfSquares).toBe(plain.sumOfSquares);
        expect(elements.every((x) => x > 0)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it.each([
    ['F16', 0x7c00],
    ['F16', 0xfe00],
    ['BF16', 0xff80],
    ['BF16', 0x7fc0],
  ] as const)('that is not finite has a sum that is not (%s %i)', (dtype, bits) => {
    const payload = new Uint8Array(Uint16Array.of(0, 0, 0, 0, 0, bits).buffer);
    expect(elementsOf([dense(dtype, 6)], payload).sumOfSquares).not.toBeLessThan(Number.POSITIVE_INFINITY);
  });
});
