import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import { fieldsOf, type WireField } from './wire.ts';

/** Messages within messages: a graph of control flow takes three, so that about thirty graphs can be nested. */
const MOST_DEEP = 100;
/** What objects of a parsed model may come to. The largest models have some 100,000 nodes, and weights count nothing. */
const MOST_BYTES = 2 ** 30;
const MESSAGE_BYTES = 400;
const FIELD_BYTES = 80;
const NUMBER_BYTES = 32;

/**
 * Goes through the bytes of a message before they are parsed, and fails (with a plain error that says what it found) where they
 * are cut off, nested too deep, of other types than the schema's, or where few bytes would become many objects.
 */
export function takeCensus(schema: DescMessage, bytes: Uint8Array): void {
  let estimate = 0;
  const count = (size: number): void => {
    estimate += size;
    if (estimate > MOST_BYTES) throw new RangeError(`more than ${MOST_BYTES} bytes of nodes and fields once it is parsed`);
  };
  const visit = (message: DescMessage, within: Uint8Array, depth: number): void => {
    if (depth > MOST_DEEP) throw new RangeError(`messages nested more than ${MOST_DEEP} deep`);
    count(MESSAGE_BYTES);
    const known = fieldsByNumber(message);
    for (const field of fieldsOf(within)) {
      count(FIELD_BYTES);
      const described = known.get(field.number);
      if (!described) continue;
      const contents = within.subarray(field.begin, field.end);
      if (!fits(described, field)) throw new RangeError(`${described.name} of ${message.name} in wire type ${field.wireType}`);
      if (described.message) visit(described.message, contents, depth + 1);
      else if (field.wireType === WireType.LengthDelimited && isVarint(described)) count(NUMBER_BYTES * varintsIn(contents));
    }
  };
  visit(schema, bytes, 1);
}

const known = new WeakMap<DescMessage, ReadonlyMap<number, DescField>>();

function fieldsByNumber(message: DescMessage): ReadonlyMap<number, DescField> {
  let fields = known.get(message);
  if (!fields) {
    fields = new Map(message.fields.map((field) => [field.number, field]));
    known.set(message, fields);
  }
  return fields;
}

function fits(described: DescField, { wireType }: WireField): boolean {
  // A list of numbers may be packed or not, whatever the schema says.
  if (described.fieldKind === 'list' && isNumber(described) && wireType === WireType.LengthDelimited) return true;
  return wireType === wireTypeOf(described);
}

function wireTypeOf({ scalar }: DescField): WireType {
  switch (scalar) {
    case ScalarType.FLOAT:
      return WireType.Bit32;
    case ScalarType.DOUBLE:
      return WireType.Bit64;
    case undefined:
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return WireType.LengthDelimited;
    default:
      return WireType.Varint;
  }
}

function isNumber({ scalar }: DescField): boolean {
  return scalar !== undefined && scalar !== ScalarType.STRING && scalar !== ScalarType.BYTES;
}

function isVarint(described: DescField): boolean {
  return isNumber(described) && wireTypeOf(described) === WireType.Varint;
}

function varintsIn(bytes: Uint8Array): number {
  let count = 0;
  for (const byte of bytes) if (byte < 128) count += 1;
  return count;
}
