import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

/** A field of a message as it lies in its bytes. */
export interface WireField {
  readonly number: number;
  readonly wireType: WireType;
  /** Where its tag begins, where what follows the tag (and the length, if it has one) does, and where it ends. */
  readonly tagAt: number;
  readonly lengthAt: number;
  readonly begin: number;
  readonly end: number;
}

/** Goes through the fields of a message, in the order of its bytes. Fails where one reaches beyond them. */
export function* fieldsOf(bytes: Uint8Array): Generator<WireField> {
  const reader = new BinaryReader(bytes);
  while (reader.pos < bytes.length) {
    const tagAt = reader.pos;
    const [number, wireType] = reader.tag();
    const lengthAt = reader.pos;
    let begin = lengthAt;
    if (wireType === WireType.LengthDelimited) {
      const length = reader.uint32();
      begin = reader.pos;
      reader.pos += length;
    } else reader.skip(wireType, number);
    if (reader.pos > bytes.length)
      throw new RangeError(`field ${number} ends ${reader.pos - bytes.length} bytes behind its message`);
    yield { number, wireType, tagAt, lengthAt, begin, end: reader.pos };
  }
}

/** Bytes that are still to be put together. */
export class Pieces {
  byteLength = 0;
  readonly #pieces: Uint8Array[] = [];

  add(piece: Uint8Array | Pieces): void {
    if (piece instanceof Pieces) for (const part of piece.#pieces) this.#pieces.push(part);
    else this.#pieces.push(piece);
    this.byteLength += piece.byteLength;
  }

  joined(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.byteLength);
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.byteLength;
    }
    return bytes;
  }
}

/**
 * Puts other contents in the place of some fields: `replace` gives them, or undefined for a field that stays as it came, or null
 * for one that goes. Everything else comes back byte for byte, whatever its order and encoding; so does a length that stays the same.
 */
export function withContents(
  bytes: Uint8Array,
  replace: (field: WireField, contents: Uint8Array) => Uint8Array | Pieces | null | undefined,
): Pieces {
  const pieces = new Pieces();
  let kept = 0;
  for (const field of fieldsOf(bytes)) {
    const contents = replace(field, bytes.subarray(field.begin, field.end));
    if (contents === undefined) continue;
    pieces.add(bytes.subarray(kept, field.tagAt));
    kept = field.end;
    if (contents === null) continue;
    pieces.add(bytes.subarray(field.tagAt, field.lengthAt));
    const sameLength = contents.byteLength === field.end - field.begin;
    pieces.add(sameLength ? bytes.subarray(field.lengthAt, field.begin) : varint(contents.byteLength));
    pieces.add(contents);
  }
  pieces.add(bytes.subarray(kept));
  return pieces;
}

/** A whole number in the encoding of tags and lengths. */
export function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Uint8Array.from([...bytes, value]);
}
