import { isUtf8 } from 'node:buffer';
import { RxgradError } from '../../errors.ts';
import type { InferParameters } from '../infer-request.ts';
import { shownText } from '../shown-text.ts';

/** Objects and arrays in one text: each takes up to 35 times the memory of its two characters. */
const MOST_PARTS = 1 << 20;

export type JsonObject = Readonly<Record<string, unknown>>;

/** Reads a JSON object. Only its own properties are ever looked at, so that `__proto__` is a name like any other. */
export function readJsonObject(bytes: Buffer, where: string): JsonObject {
  if (!isUtf8(bytes)) throw new RxgradError('invalidRequest', { where, expected: 'JSON in UTF-8', got: 'other bytes' });
  assertModest(bytes, where);
  const text = bytes.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message repeats pieces of what came.
    const got = bytes.length === 0 ? 'no bytes' : `${bytes.length} bytes that are none`;
    throw new RxgradError('invalidRequest', { where, expected: 'a JSON object', got });
  }
  return asObject(value, where);
}

/** Counts what a text would become in memory, before it does. Brackets within strings count, too. */
function assertModest(bytes: Buffer, where: string): void {
  if (bytes.length <= MOST_PARTS) return;
  let parts = 0;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === 0x5b || bytes[i] === 0x7b) parts++;
  if (parts <= MOST_PARTS) return;
  throw new RxgradError('requestTooLarge', { where, expected: `${MOST_PARTS} arrays and objects`, got: `${parts}` });
}

export function asObject(value: unknown, where: string): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new RxgradError('invalidRequest', { where, expected: 'a JSON object', got: kindOf(value) });
}

const none: InferParameters = Object.freeze(Object.create(null) as Record<string, never>);

/** Parameters of a request, a tensor or an output. */
export function readParameters(value: unknown, where: string): InferParameters {
  if (value === undefined) return none;
  const parameters: Record<string, string | number | boolean> = Object.create(null);
  for (const [name, parameter] of Object.entries(asObject(value, `${where}: parameters`))) {
    const type = typeof parameter;
    if (type !== 'string' && type !== 'number' && type !== 'boolean') {
      const place = `${where}: parameter "${shownText(name)}"`;
      throw new RxgradError('invalidRequest', { where: place, expected: 'text, a number or a boolean', got: kindOf(parameter) });
    }
    parameters[name] = parameter as string | number | boolean;
  }
  return parameters;
}

export function kindOf(value: unknown): string {
  if (value === undefined) return 'none';
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : `what is of type ${typeof value}`;
}
