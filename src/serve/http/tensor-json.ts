import { RxgradError } from '../../errors.ts';
import { type Datatype, type NumericData, numericArray, type TensorData } from '../datatypes.ts';
import { shownText } from '../shown-text.ts';

type Nested = readonly unknown[];

interface HalfFloats {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): { [index: number]: number; join(separator: string): string };
}

/** Missing before Node.js 24. */
const halfFloats = (globalThis as { Float16Array?: HalfFloats }).Float16Array;

const whole = 'whole numbers that it can hold';
const expectations: Readonly<Partial<Record<Datatype, string>>> = {
  BOOL: 'true and false',
  BYTES: 'text',
  FP16: 'finite numbers that it can hold',
  FP32: 'finite numbers that it can hold',
  FP64: 'finite numbers',
  INT64: `${whole}, as text or in binary from 2^53 on`,
  UINT64: `${whole}, as text or in binary from 2^53 on`,
};

/** Reads what `data` of a tensor is in JSON, flat or nested as the shape says. `elements` is the product of the shape. */
export function readTensorJson(
  name: string,
  datatype: Datatype,
  shape: readonly number[],
  elements: number,
  data: unknown,
): TensorData {
  if (!Array.isArray(data)) throw problemOf(name, 'data as an array', data === undefined ? 'none' : 'something else');
  const flat = Array.isArray(data[0]) ? flattened(name, data, shape) : data;
  if (flat.length !== elements) throw problemOf(name, `${elements} elements, as shape [${shape}] says`, `${flat.length}`);
  if (datatype === 'BYTES') {
    for (const element of flat) if (typeof element !== 'string') throw elementProblem(name, datatype, element);
    return flat as string[];
  }
  const array = numericArray(datatype, elements);
  const wrong = fill(datatype, array, flat);
  if (wrong >= 0) throw elementProblem(name, datatype, flat[wrong]);
  return array;
}

/**
 * Writes a tensor's elements as a JSON array. Floats have the digits that give the same number back; those that are not finite
 * are `null`, since JSON has no others.
 */
export function writeTensorJson(datatype: Datatype, data: TensorData): string {
  switch (datatype) {
    case 'BYTES':
      return JSON.stringify(data);
    case 'BOOL':
      return `[${Array.from(data as Uint8Array, Boolean).join(',')}]`;
    case 'FP16':
      return floatsOf(halvesOf(data as Uint16Array));
    case 'FP32':
    case 'FP64':
      return floatsOf(data as Float32Array);
    default:
      return `[${(data as Int32Array).join(',')}]`;
  }
}

function floatsOf(data: { readonly length: number; readonly [index: number]: number }): string {
  let text = '[';
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    if (i > 0) text += ',';
    if (value === 0) text += Object.is(value, 0) ? '0' : '-0';
    else text += value - value === 0 ? value : 'null';
  }
  return `${text}]`;
}

/** The index of the first element that does not fit; −1 where all do. */
function fill(datatype: Datatype, array: NumericData, flat: Nested): number {
  switch (datatype) {
    case 'FP32':
    case 'FP64':
      return fillFloats(array as Float64Array, flat);
    case 'FP16':
      return fillFloats(halvesOf(array as Uint16Array) as Float64Array, flat);
    case 'BOOL':
      return flat.findIndex((value, i) => {
        array[i] = Number(value);
        return value !== true && value !== false && value !== 0 && value !== 1;
      });
    case 'INT64':
    case 'UINT64':
      return flat.findIndex((value, i) => {
        if (!Number.isSafeInteger(value) && !(typeof value === 'string' && /^-?\d{1,20}$/.test(value))) return true;
        const exact = BigInt(value as number | string);
        array[i] = exact;
        return array[i] !== exact;
      });
    default:
      return flat.findIndex((value, i) => {
        if (typeof value !== 'number') return true;
        array[i] = value;
        return array[i] !== value;
      });
  }
}

function fillFloats(array: Float64Array, flat: Nested): number {
  for (let i = 0; i < flat.length; i++) {
    const value = flat[i];
    if (typeof value !== 'number') return i;
    array[i] = value;
    const held = array[i]!;
    if (held - held !== 0) return i;
  }
  return -1;
}

function halvesOf({ buffer, byteOffset, length }: Uint16Array): Float64Array {
  if (halfFloats) return new halfFloats(buffer, byteOffset, length) as Float64Array;
  throw new RxgradError('invalidRequest', { where: 'FP16', expected: 'binary data', got: 'JSON' });
}

/** Goes no deeper than the shape does, however deep the data is. */
function flattened(name: string, data: Nested, shape: readonly number[]): unknown[] {
  let level: Nested = data;
  for (const [depth, size] of shape.entries()) {
    if (depth === 0) {
      if (data.length !== size) throw nesting(name, shape);
      continue;
    }
    const below: unknown[] = [];
    for (const part of level) {
      if (!Array.isArray(part) || part.length !== size) throw nesting(name, shape);
      for (const element of part) below.push(element);
    }
    level = below;
  }
  return level as unknown[];
}

function nesting(name: string, shape: readonly number[]): RxgradError {
  return problemOf(name, `data flat, or nested as its shape [${shape}]`, 'other lengths');
}

function elementProblem(name: string, datatype: Datatype, element: unknown): RxgradError {
  const got = typeof element === 'object' ? (element === null ? 'null' : 'an array or object') : JSON.stringify(element);
  return problemOf(name, `${datatype}: ${expectations[datatype] ?? whole}`, shownText(got ?? 'nothing'));
}

function problemOf(name: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidRequest', { where: `tensor "${name}"`, expected, got });
}
