import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { RESERVED } from './tensor-file.ts';

/** Where a parameter lies: `offset` counts bytes from the start of its weight buffer. */
export interface ParameterPlace {
  readonly name: string;
  readonly dims: readonly number[];
  readonly offset: number;
  readonly length: number;
}

/** A parameter as it is given: dims and, row-major, as many values; zeros where there are none. */
export interface ParameterSpec {
  readonly dims: readonly number[];
  readonly data?: ArrayLike<number>;
}

const dimension = v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0));
const name = v.pipe(
  v.string(),
  v.check((given) => !given.startsWith(RESERVED), `a name that does not begin with "${RESERVED}": state files use those`),
);
export const specsSchema = v.record(
  name,
  v.strictObject({ dims: v.array(dimension), data: v.optional(v.custom<ArrayLike<number>>(isArrayLike, 'an array of numbers')) }),
);

/** Places parameters one after the other, each at the begin of a cache line. */
export function layOut(specs: Readonly<Record<string, ParameterSpec>>): { places: ParameterPlace[]; byteLength: number } {
  const places: ParameterPlace[] = [];
  let offset = 0;
  for (const [name, { dims, data }] of Object.entries(specs)) {
    const length = dims.reduce((product, dim) => product * dim, 1);
    if (data && data.length !== length) {
      const expected = `${length} values for dims [${dims}]`;
      throw new RxgradError('invalidOption', {
        option: `Parameters.create: ${name}.data`,
        expected,
        got: `${data.length} values`,
      });
    }
    places.push({ name, dims: [...dims], offset, length });
    offset += Math.ceil((4 * length) / 64) * 64;
  }
  return { places, byteLength: offset };
}

function isArrayLike(value: unknown): boolean {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}
