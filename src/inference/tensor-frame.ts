import { Tensor } from 'onnxruntime-node';

type Data = Exclude<Tensor['data'], string[]>;
interface DataConstructor {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, at: number, length: number): Data;
}

// As onnxruntime does, which goes by whether there is one.
const halves = (globalThis as unknown as { Float16Array?: DataConstructor }).Float16Array ?? Uint16Array;

/** How onnxruntime gives the elements of each type. A type is known by its place here. */
const types = [
  ['float32', Float32Array],
  ['int64', BigInt64Array],
  ['string', Uint8Array],
  ['bool', Uint8Array],
  ['uint8', Uint8Array],
  ['int8', Int8Array],
  ['uint16', Uint16Array],
  ['int16', Int16Array],
  ['int32', Int32Array],
  ['uint32', Uint32Array],
  ['uint64', BigUint64Array],
  ['float16', halves],
  ['float64', Float64Array],
  ['uint4', Uint8Array],
  ['int4', Uint8Array],
] as const satisfies [Tensor.Type, unknown][];
const numbers = new Map<string, number>(types.map(([type], number) => [type, number]));

const ALIGNMENT = 64;
// Type, rank, bytes.
const WORDS = 3;

/** Bytes that {@link writeFrame} needs at most. */
export function frameBytes(tensors: readonly Tensor[]): number {
  let bytes = ALIGNMENT;
  for (const tensor of tensors) bytes += 4 * (WORDS + tensor.dims.length) + dataBytes(tensor) + ALIGNMENT;
  return bytes;
}

/** Writes tensors one behind the other, for another thread to read in place. */
export function writeFrame(buffer: ArrayBufferLike, start: number, tensors: readonly Tensor[]): void {
  const words = wordsOf(buffer, start);
  let word = 0;
  for (const tensor of tensors) {
    words[word++] = numbers.get(tensor.type)!;
    words[word++] = tensor.dims.length;
    words[word++] = dataBytes(tensor);
    for (const dim of tensor.dims) words[word++] = dim;
  }
  let at = aligned(start + 4 * word);
  for (const tensor of tensors) {
    const length = dataBytes(tensor);
    if (tensor.type === 'string') writeTexts(Buffer.from(buffer as ArrayBuffer, at, length), tensor.data as string[]);
    else new Uint8Array(buffer, at, length).set(bytesOf(tensor));
    at = aligned(at + length);
  }
}

/** Reads tensors where they lie: valid until the next frame is written there. */
export function readFrame(buffer: ArrayBufferLike, start: number, names: readonly string[]): Record<string, Tensor> {
  const words = wordsOf(buffer, start);
  let word = 0;
  const heads = names.map(() => {
    const [type, rank, length] = [words[word]!, words[word + 1]!, words[word + 2]!];
    word += WORDS;
    const dims = Array.from(words.subarray(word, word + rank));
    word += rank;
    return { type, dims, length };
  });
  const tensors: Record<string, Tensor> = Object.create(null);
  let at = aligned(start + 4 * word);
  for (const [i, { type: number, dims, length }] of heads.entries()) {
    const [type, elements] = types[number]!;
    if (type === 'string') {
      const count = dims.reduce((product, dim) => product * dim, 1);
      tensors[names[i]!] = new Tensor('string', readTexts(Buffer.from(buffer as ArrayBuffer, at, length), count), dims);
    } else {
      const Elements = elements as DataConstructor;
      const data = new Elements(buffer, at, length / Elements.BYTES_PER_ELEMENT);
      tensors[names[i]!] = new Tensor(type, data as Float32Array, dims);
    }
    at = aligned(at + length);
  }
  return tensors;
}

/** A tensor of its own, of one whose memory is lent. */
export function ownTensor(tensor: Tensor): Tensor {
  if (tensor.type === 'string') return tensor;
  return new Tensor(tensor.type, (tensor.data as Float32Array).slice(), tensor.dims);
}

function dataBytes({ type, data }: Tensor): number {
  if (type !== 'string') return (data as Data).byteLength;
  let bytes = 0;
  for (const text of data as string[]) bytes += 4 + Buffer.byteLength(text);
  return bytes;
}

function bytesOf(tensor: Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.data as Data;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function writeTexts(bytes: Buffer, texts: readonly string[]): void {
  let at = 0;
  for (const text of texts) {
    const length = bytes.write(text, at + 4);
    at = bytes.writeInt32LE(length, at) + length;
  }
}

function readTexts(bytes: Buffer, count: number): string[] {
  let at = 0;
  return Array.from({ length: count }, () => {
    const begin = at + 4;
    at = begin + bytes.readInt32LE(at);
    return bytes.toString('utf8', begin, at);
  });
}

function wordsOf(buffer: ArrayBufferLike, start: number): Int32Array {
  return new Int32Array(buffer, start, Math.floor((buffer.byteLength - start) / 4));
}

function aligned(at: number): number {
  return Math.ceil(at / ALIGNMENT) * ALIGNMENT;
}
