import type { NewRecord } from 'rxgrad';

/** A number in [0, 1), as of a seeded generator: the same numbers make the same mutations. */
export type Random = () => number;

type Headers = Record<string, string | Uint8Array>;

interface Draft {
  key: Uint8Array | null;
  value: Buffer | null;
  headers: Headers;
}

type Mutation = (draft: Draft, random: Random) => void;

/** Changes a record in one to three ways: what producers, networks and disks may do to it, and what somebody may who means harm. */
export function mutate({ key, value, headers, ...rest }: NewRecord, random: Random): NewRecord {
  const draft: Draft = {
    key: typeof key === 'string' ? Buffer.from(key) : (key ?? null),
    value: value && Buffer.from(value),
    headers: { ...headers },
  };
  for (let times = 1 + below(random, 3); times > 0; times--) pick(random, mutations)(draft, random);
  return { ...rest, ...draft };
}

export function below(random: Random, end: number): number {
  return Math.floor(random() * end);
}

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[below(random, from.length)]!;
}

const types = ['rxgrad.gradients.v1', 'rxgrad.epoch.v1', 'rxgrad.metric.v1'];
const elementTypes = ['F32', 'F16', 'BF16', 'I8', 'I32', 'I64', 'F64', 'U8', 'BOOL', '', null, 7, {}, '__proto__'];
const oddNumbers = [-1, 0, 1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 1e308, '4', null, [], {}, true];
const oddTexts = [
  '',
  ' ',
  'NaN',
  '-1',
  '1e999',
  '99999999999999999999',
  '\u0000',
  '\u001b[2J',
  '__proto__',
  'constructor',
  '\ud800',
  '{}',
];
const oddFacts = [
  'base=-1',
  'base=1e300',
  'base=9007199254740993',
  'batch=0',
  'batch=0.5',
  'norm=-1',
  'norm=0',
  'norm=1e308',
  'loss=?1',
  'base=(1 2)',
  'x="',
  'base=:AA==:',
];
const floats = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.4e38, 1e-45, -0];

function flipBit(bytes: Uint8Array, random: Random, end = bytes.length): void {
  if (end > 0) bytes[below(random, end)]! ^= 1 << below(random, 8);
}

function noise(random: Random, most: number): Buffer {
  return Buffer.from(Array.from({ length: below(random, most) }, () => below(random, 256)));
}

function nameOf({ headers }: Draft, random: Random): string | undefined {
  const names = Object.keys(headers);
  return names.length === 0 ? undefined : pick(random, names);
}

/** Changes the header of a safetensors file, where there is one, and writes its length anew. */
function inTensorHeader(draft: Draft, change: (header: Record<string, unknown>) => unknown): void {
  const { value } = draft;
  if (!value || value.length < 8) return;
  const length = value.readUInt32LE(0);
  let header: unknown;
  try {
    header = JSON.parse(value.toString('utf8', 8, 8 + length));
  } catch {
    return;
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) return;
  const changed = change(header as Record<string, unknown>) ?? header;
  const text = Buffer.from(typeof changed === 'string' ? changed : JSON.stringify(changed));
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32LE(text.length, 0);
  draft.value = Buffer.concat([prefix, text, value.subarray(8 + length)]);
}

function inEntry(
  draft: Draft,
  random: Random,
  change: (entry: Record<string, unknown>, header: Record<string, unknown>) => void,
): void {
  inTensorHeader(draft, (header) => {
    const names = Object.keys(header);
    const entry = names.length === 0 ? null : header[pick(random, names)];
    if (typeof entry === 'object' && entry !== null) change(entry as Record<string, unknown>, header);
  });
}

function oddList(random: Random): unknown {
  return random() < 0.2 ? pick(random, oddNumbers) : Array.from({ length: below(random, 20) }, () => pick(random, oddNumbers));
}

function deep(random: Random): string {
  const depth = pick(random, [10, 1000, 100_000]);
  return pick(random, ['[', '{"a":']).repeat(depth) + pick(random, ['', '1', ']'.repeat(depth)]);
}

/** Where tensor data begins; 0 where that cannot be told. */
function payloadOf(value: Buffer): number {
  if (value.length < 8) return 0;
  const begin = 8 + value.readUInt32LE(0);
  return begin <= value.length ? begin : 0;
}

/** Each by itself, in the order of what it touches: bytes, headers, the file's head, its data. */
export const mutations: readonly Mutation[] = [
  ({ value }, random) => value && flipBit(value, random),
  ({ value }, random) => {
    for (let times = value ? 1 + below(random, 16) : 0; times > 0; times--) flipBit(value!, random);
  },
  ({ value }, random) => value && flipBit(value, random, payloadOf(value)),
  (draft, random) => {
    draft.value &&= draft.value.subarray(0, below(random, draft.value.length + 1));
  },
  (draft, random) => {
    draft.value &&= draft.value.subarray(below(random, Math.min(draft.value.length, 16)));
  },
  (draft, random) => {
    draft.value = Buffer.concat([draft.value ?? Buffer.alloc(0), noise(random, 64)]);
  },
  (draft, random) => {
    draft.value = pick(random, [null, Buffer.alloc(0), noise(random, 200), Buffer.alloc(8), Buffer.alloc(8, 255)]);
  },
  (draft, random) => {
    draft.key = random() < 0.5 ? null : noise(random, 32);
  },

  (draft, random) => {
    const name = nameOf(draft, random);
    if (name !== undefined) delete draft.headers[name];
  },
  (draft, random) => {
    const [a, b] = [nameOf(draft, random), nameOf(draft, random)];
    if (a !== undefined && b !== undefined) [draft.headers[a], draft.headers[b]] = [draft.headers[b]!, draft.headers[a]!];
  },
  (draft, random) => {
    const name = nameOf(draft, random);
    if (name === undefined) return;
    const bytes = Buffer.from(draft.headers[name]!);
    flipBit(bytes, random);
    draft.headers[name] = bytes;
  },
  (draft, random) => {
    const name = nameOf(draft, random);
    if (name !== undefined)
      draft.headers[name] = pick<string | Uint8Array>(random, [
        ...oddTexts,
        noise(random, 64),
        Buffer.from([0xc3, 0x28, 0xff]),
        'x'.repeat(5000),
      ]);
  },
  (draft, random) => {
    const name = nameOf(draft, random) ?? 'ce_type';
    draft.headers[
      pick(random, [name.toUpperCase(), ` ${name}`, `rxgrad_${name}`, 'rxgrad_reason', 'rxgrad_retry_of', 'rxgrad_attempt'])
    ] = pick(random, oddTexts);
  },
  ({ headers }, random) => {
    headers.ce_type = pick(random, types);
  },
  ({ headers }, random) => {
    headers.ce_id = pick(random, [...oddTexts, '0', '18446744073709551616', '007', '1.5']);
  },
  ({ headers }, random) => {
    headers.ce_gradient = pick(random, [
      `${pick(random, oddFacts)}, ${pick(random, oddFacts)}`,
      pick(random, oddFacts),
      pick(random, oddTexts),
    ]);
  },

  ({ value }, random) => {
    if (value && value.length >= 8)
      value.writeBigUInt64LE(
        BigInt.asUintN(
          64,
          pick(random, [0n, 1n, -1n, 2n ** 32n, 2n ** 63n, 4n << 20n, BigInt(value.length), BigInt(value.length - 8)]),
        ),
      );
  },
  (draft, random) =>
    inEntry(draft, random, (entry) => {
      entry.data_offsets = oddList(random);
    }),
  (draft, random) =>
    inEntry(draft, random, (entry) => {
      const [begin, end] = [entry.data_offsets].flat().map(Number) as [number, number];
      const by = pick(random, [-8, -4, -1, 1, 4, 8, 2 ** 32, -(2 ** 32)]);
      entry.data_offsets = pick(random, [
        [begin + by, end + by],
        [begin, end + by],
        [begin + by, end],
        [end, begin],
      ]);
    }),
  (draft, random) =>
    inEntry(draft, random, (entry) => {
      entry.shape = oddList(random);
    }),
  (draft, random) =>
    inEntry(draft, random, (entry) => {
      if (Array.isArray(entry.shape))
        entry.shape = pick<unknown>(random, [
          [...entry.shape, 1],
          [1, ...entry.shape],
          entry.shape.toReversed(),
          [entry.shape.reduce((a, b) => a * b, 1)],
          entry.shape.slice(1),
        ]);
    }),
  (draft, random) =>
    inEntry(draft, random, (entry) => {
      entry.dtype = pick(random, elementTypes);
    }),
  (draft, random) =>
    inEntry(draft, random, (entry, header) => {
      header[pick(random, [...oddTexts, 'another', '__metadata__', 'x'.repeat(3000), 'table.indices', 'dense.scale'])] =
        random() < 0.5 ? { ...entry } : pick(random, oddNumbers);
    }),
  (draft, random) =>
    inTensorHeader(draft, (header) => {
      const names = Object.keys(header);
      if (names.length > 0) delete header[pick(random, names)];
    }),
  (draft, random) =>
    inTensorHeader(draft, (header) => {
      const name = pick(random, Object.keys(header).concat('none'));
      const to = pick(random, [...oddTexts, `${name}.values`, `${name}.indices`, `${name}.scale`, name.replace(/\.\w+$/, '')]);
      return JSON.stringify(header).replace(`${JSON.stringify(name)}:`, `${JSON.stringify(to)}:`);
    }),
  (draft, random) =>
    inTensorHeader(draft, () =>
      pick(random, [deep(random), '[]', 'null', '1', '"text"', '{}', '{"__metadata__":1}', '{"a":null}']),
    ),
  (draft, random) => {
    const body = {
      epoch: pick<unknown>(random, [...oddNumbers, ...oddTexts, 5]),
      name: pick<unknown>(random, [...oddNumbers, ...oddTexts, 'loss']),
      value: pick<unknown>(random, [...oddNumbers, ...oddTexts, 0.5]),
    };
    draft.value = Buffer.from(
      pick(random, [JSON.stringify(body), deep(random), '{"epoch":1e999}', `"${'x'.repeat(70_000)}"`, '[1]', '{']),
    );
    draft.headers.ce_type = pick(random, types.slice(1));
  },

  ({ value }, random) => {
    const begin = value ? payloadOf(value) : 0;
    const places = value ? Math.floor((value.length - begin) / 4) : 0;
    for (let times = places > 0 ? 1 + below(random, 3) : 0; times > 0; times--)
      value!.writeFloatLE(pick(random, floats), begin + 4 * below(random, places));
  },
  ({ value }, random) => {
    const begin = value ? payloadOf(value) : 0;
    const places = value ? Math.floor((value.length - begin) / 4) : 0;
    if (places > 0)
      value!.writeInt32LE(
        pick(random, [-1, 0, 1, 1000, 2 ** 31 - 1, -(2 ** 31)]),
        begin + 4 * below(random, Math.min(places, 16)),
      );
  },
  ({ value }, random) => {
    if (value) noise(random, 64).copy(value, Math.min(value.length, payloadOf(value)));
  },
];
