import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { RxgradError } from '../../errors.ts';

/** Tensors, parameters and strings of a request: each becomes an object, many times the bytes that it came in. */
const MOST_PARTS = 1 << 18;
/** Bytes of values outside `raw_input_contents`: each may be one byte here, and is eight as an element of an array. */
const MOST_TYPED_BYTES = 1 << 24;

/** Of a message, the fields that hold messages, strings or arrays; what they hold is counted in the same way. */
interface Counted {
  readonly [field: number]: Counted | 'part' | 'values' | 'raw';
}

const parameters: Counted = {};
const contents: Counted = {
  1: 'values',
  2: 'values',
  3: 'values',
  4: 'values',
  5: 'values',
  6: 'values',
  7: 'values',
  8: 'part',
};
/** Field numbers of a ModelInferRequest. */
const request: Counted = {
  4: parameters,
  5: { 3: 'values', 4: parameters, 5: contents },
  6: { 2: parameters },
  7: 'raw',
};

/** Counts what a request for a prediction would become in memory, before it does. */
export function assertModest(method: string, bytes: Uint8Array): void {
  let parts = 0;
  let typedBytes = 0;

  function count(reader: BinaryReader, end: number, counted: Counted): void {
    while (reader.pos < end) {
      const [field, wire] = reader.tag();
      const kind = counted[field];
      if (kind === 'values' && wire !== WireType.LengthDelimited) typedBytes += 8;
      if (kind === undefined || wire !== WireType.LengthDelimited) {
        reader.skip(wire, field);
        continue;
      }
      const length = reader.uint32();
      const next = reader.pos + length;
      if (next > bytes.length) throw new RangeError('a field goes beyond the end');
      if (kind === 'values') typedBytes += length;
      else parts += 1;
      if (parts > MOST_PARTS || typedBytes > MOST_TYPED_BYTES) return;
      if (typeof kind === 'object') count(reader, next, kind);
      reader.pos = next;
    }
  }

  count(new BinaryReader(bytes), bytes.length, request);
  if (parts > MOST_PARTS) throw tooLarge(method, `${MOST_PARTS} tensors, parameters and strings in all`);
  if (typedBytes > MOST_TYPED_BYTES) throw tooLarge(method, `${MOST_TYPED_BYTES} bytes of values outside raw_input_contents`);
}

function tooLarge(where: string, expected: string): RxgradError {
  return new RxgradError('requestTooLarge', { where, expected, got: 'more' });
}
