import { callWords } from '../src/kernels/call.ts';
import { type ElementKernel, type Lanes, MAXIMUM_ARRAYS, MAXIMUM_SCALARS, SUM_BLOCK } from '../src/kernels/kernel.ts';

/**
 * What a loop does to a gradient before the rule: clip(g · scale, ±limit) + decay · w. What a step does without is not
 * computed (measured 15 % less for Momentum): a scale of 1 and an infinite limit change no bit, but decay 0 would.
 */
interface Variant {
  readonly limited: boolean;
  readonly decayed: boolean;
}

const nothing: Variant = { limited: false, decayed: false };
const everyVariant: readonly Variant[] = [false, true].flatMap((limited) =>
  [false, true].map((decayed) => ({ limited, decayed })),
);

/** Writes a kernel as AssemblyScript: `name(call, begin, end)` over elements and, where rows can be stepped, `nameRows`. */
export function emitKernel(kernel: ElementKernel): string {
  if (kernel.arrays.length > MAXIMUM_ARRAYS) throw new Error(`${kernel.name}: more than ${MAXIMUM_ARRAYS} arrays`);
  if (kernel.scalars.length > MAXIMUM_SCALARS) throw new Error(`${kernel.name}: more than ${MAXIMUM_SCALARS} scalars`);
  const taken = [...kernel.arrays, ...kernel.scalars].find((name) => name in callWords);
  if (taken) throw new Error(`${kernel.name}: "${taken}" is the name of what every call has`);
  const used = usedNames(kernel);
  const variants = kernel.prologue && used.has('g') ? everyVariant : [nothing];
  return [
    ...variants.map((variant) => rangeFunction(kernel, used, variant)),
    entry(kernel, used, variants),
    ...(kernel.sums.length === 0 ? [rowsEntry(kernel, used, variants)] : []),
  ].join('\n');
}

/** The file that kernels are emitted into begins with this. */
export const preamble = [
  "import { end, high, loadF32, loadLanes, loadU32, low, storeF64, storeLanes, storeU32, wholeVectorsEnd } from './lanes';",
  '',
].join('\n');

/** Memory that a kernel goes through, in the order of its parameters. */
function pointersOf(kernel: ElementKernel, used: ReadonlySet<string>): string[] {
  return ['w', 'out', 'g', ...kernel.arrays].filter((name) => used.has(name));
}

function splatsOf(kernel: ElementKernel, used: ReadonlySet<string>): string[] {
  const prologue = kernel.prologue && used.has('g') ? ['scale', 'limit', 'decay'] : [];
  return [...prologue, ...['lr', ...kernel.scalars].filter((name) => used.has(name))];
}

/** What a kernel reads or writes, by name. */
function usedNames(kernel: ElementKernel): Set<string> {
  const used = new Set(Object.keys(kernel.stores).map((name) => (name === 'w' ? 'out' : name)));
  const visit = ({ op, operands, value }: Lanes): void => {
    if (op === 'input') used.add(String(value));
    operands.forEach(visit);
  };
  for (const node of [...Object.values(kernel.stores), ...kernel.sums]) visit(node);
  // Decay reads the weights.
  if (kernel.prologue && used.has('g')) used.add('w');
  return used;
}

function rangeFunction(kernel: ElementKernel, used: ReadonlySet<string>, variant: Variant): string {
  const pointers = pointersOf(kernel, used);
  const first = pointers[0]!;
  const parameters = [
    ...pointers.map((p) => `${p}_: usize`),
    'length: i32',
    ...splatsOf(kernel, used).map((s) => `${s}: v128`),
    ...(kernel.sums.length > 0 ? ['sums: usize'] : []),
    ...(isStep(kernel) ? ['call: usize'] : []),
  ];
  const sums = kernel.sums.map((_, i) => `  let sum${i} = f64x2.splat(0);`);
  const advance = (by: number): string => pointers.map((p) => `${p}_ += ${by};`).join(' ');
  const loop = (until: string, single: boolean): string =>
    [`  while (${first}_ < ${until}) {`, body(kernel, used, variant, single), `    ${advance(single ? 4 : 16)}`, '  }'].join(
      '\n',
    );
  return [
    `function ${rangeName(kernel, variant)}(${parameters.join(', ')}): void {`,
    ...sums,
    // x − x is 0 where x is finite, else NaN.
    ...(isStep(kernel) ? ['  let bad = i32x4.splat(0);'] : []),
    `  const vectors = wholeVectorsEnd(${first}_, length);`,
    `  const last = end(${first}_, length);`,
    ...(variant.limited ? ['  const lowest = f32x4.neg(limit);'] : []),
    loop('vectors', false),
    loop('last', true),
    ...kernel.sums.map((_, i) => `  storeF64(sums + ${8 * i}, f64x2.extract_lane(sum${i}, 0) + f64x2.extract_lane(sum${i}, 1));`),
    ...(isStep(kernel) ? [`  if (v128.any_true(bad)) storeU32(call + ${4 * callWords.bad}, 1);`] : []),
    '}',
    '',
  ].join('\n');
}

function body(kernel: ElementKernel, used: ReadonlySet<string>, { limited, decayed }: Variant, single: boolean): string {
  const lines: string[] = [];
  for (const name of pointersOf(kernel, used)) {
    if (isRead(kernel, name)) lines.push(`const ${name} = loadLanes(${name}_, ${single});`);
  }
  if (kernel.prologue && used.has('g')) {
    lines.push(`const scaled = f32x4.mul(g, scale);`);
    lines.push(`const clipped = ${limited ? 'f32x4.pmin(f32x4.pmax(scaled, lowest), limit)' : 'scaled'};`);
    lines.push(`const gradient = ${decayed ? 'f32x4.add(clipped, f32x4.mul(decay, w))' : 'clipped'};`);
  }
  const names = new Map<Lanes, string>();
  const expression = (node: Lanes): string => {
    if (node.op === 'constant') return `f32x4.splat(<f32>${node.value})`;
    if (node.op === 'input') return node.value === 'g' && kernel.prologue ? 'gradient' : String(node.value);
    const known = names.get(node);
    if (known) return known;
    const written = instruction(node, node.operands.map(expression));
    const name = `x${names.size}`;
    names.set(node, name);
    lines.push(`const ${name} = ${written};`);
    return name;
  };
  const stores = Object.entries(kernel.stores).map(([name, node]) => [name === 'w' ? 'out' : name, expression(node)] as const);
  kernel.sums.forEach((node, i) => {
    const x = expression(node);
    const promoted = single ? `low(v128.and(${x}, i32x4(-1, 0, 0, 0)))` : `f64x2.add(low(${x}), high(${x}))`;
    lines.push(`sum${i} = f64x2.add(sum${i}, ${promoted});`);
  });
  const weights = stores.find(([name]) => name === 'out')?.[1];
  if (weights) {
    const difference = `f32x4.sub(${weights}, ${weights})`;
    lines.push(`bad = v128.or(bad, ${single ? `v128.and(${difference}, i32x4(-1, 0, 0, 0))` : difference});`);
  }
  lines.push(...stores.map(([name, value]) => `storeLanes(${name}_, ${value}, ${single});`));
  return lines.map((line) => `    ${line}`).join('\n');
}

function isRead(kernel: ElementKernel, name: string): boolean {
  if (name === 'w' && kernel.prologue) return true;
  const reads = (node: Lanes): boolean => (node.op === 'input' ? node.value === name : node.operands.some(reads));
  return [...Object.values(kernel.stores), ...kernel.sums].some(reads);
}

function instruction({ op }: Lanes, operands: readonly string[]): string {
  switch (op) {
    case 'greater':
      return `f32x4.gt(${operands.join(', ')})`;
    case 'equal':
      return `f32x4.eq(${operands.join(', ')})`;
    case 'select':
      return `v128.bitselect(${operands.join(', ')})`;
    default:
      return `f32x4.${op}(${operands.join(', ')})`;
  }
}

/** Whether it writes weights. */
function isStep({ stores }: ElementKernel): boolean {
  return 'w' in stores;
}

function rangeName({ name }: ElementKernel, { limited, decayed }: Variant): string {
  return `${name}${limited ? 'Limited' : ''}${decayed ? 'Decayed' : ''}Range`;
}

/** Reads a call's addresses and scalars into locals. */
function unpacked(kernel: ElementKernel, used: ReadonlySet<string>): string[] {
  const wordOf = (name: string): number =>
    name in callWords ? callWords[name as keyof typeof callWords] : callWords.arrays + kernel.arrays.indexOf(name);
  const scalarOf = (name: string): number =>
    name in callWords ? callWords[name as keyof typeof callWords] : callWords.scalars + kernel.scalars.indexOf(name);
  return [
    ...pointersOf(kernel, used).map((name) => `  const ${name} = <usize>loadU32(call + ${4 * wordOf(name)});`),
    ...splatsOf(kernel, used).map((name) => `  const ${name} = f32x4.splat(loadF32(call + ${4 * scalarOf(name)}));`),
  ];
}

/** Runs the variant that the call asks for: decay 0 must not turn −0 into +0. */
function dispatch(kernel: ElementKernel, variants: readonly Variant[], args: string, indent: string): string[] {
  const run = (variant: Variant): string => `${rangeName(kernel, variant)}(${args});`;
  if (variants.length === 1) return [`${indent}${run(variants[0]!)}`];
  return variants.map((variant, i) => {
    const conditions = Object.entries(variant).map(([name, wanted]) => (wanted ? name : `!${name}`));
    return `${indent}${i === 0 ? '' : 'else '}if (${conditions.join(' && ')}) ${run(variant)}`;
  });
}

function flags(variants: readonly Variant[]): string[] {
  if (variants.length === 1) return [];
  return [
    `  const limited = loadF32(call + ${4 * callWords.limit}) != Infinity;`,
    `  const decayed = loadF32(call + ${4 * callWords.decay}) != 0;`,
  ];
}

function entry(kernel: ElementKernel, used: ReadonlySet<string>, variants: readonly Variant[]): string {
  const pointers = pointersOf(kernel, used).map((name) => `${name} + at`);
  const splats = splatsOf(kernel, used);
  const summed = kernel.sums.length > 0;
  const args = (length: string): string =>
    [
      ...pointers,
      length,
      ...splats,
      ...(summed ? [`sums + (${8 * kernel.sums.length} * (begin / ${SUM_BLOCK}))`] : []),
      ...(isStep(kernel) ? ['call'] : []),
    ].join(', ');
  return [
    `export function ${kernel.name}(call: usize, begin: i32, end: i32): void {`,
    ...unpacked(kernel, used),
    ...flags(variants),
    ...(summed
      ? [
          `  const sums = <usize>loadU32(call + ${4 * callWords.sums});`,
          '  while (begin < end) {',
          `    const at = (<usize>begin) << 2;`,
          `    const length = min<i32>(end - begin, ${SUM_BLOCK});`,
          ...dispatch(kernel, variants, args('length'), '    '),
          '    begin += length;',
          '  }',
        ]
      : ['  const at = (<usize>begin) << 2;', ...dispatch(kernel, variants, args('end - begin'), '  ')]),
    '}',
    '',
  ].join('\n');
}

/** Rows that are touched before they are stepped. */
const GROUP_ROWS = 32;

/**
 * Over rows of a table: gradients lie one row after the other, everything else where the row's number says. Some rows are
 * touched first, all at once: a step would wait for one cold place after the other (measured 57 instead of 113 µs for 1,000
 * rows of Momentum in a table of 64 MB).
 */
function rowsEntry(kernel: ElementKernel, used: ReadonlySet<string>, variants: readonly Variant[]): string {
  const pointers = pointersOf(kernel, used).map((name) => (name === 'g' ? 'g + (<usize>row) * stride' : `${name} + at`));
  const args = [...pointers, 'width', ...splatsOf(kernel, used), ...(isStep(kernel) ? ['call'] : [])].join(', ');
  const offset = '(<usize>loadU32(rows + ((<usize>row) << 2))) * stride';
  return [
    `export function ${kernel.name}Rows(call: usize, begin: i32, end: i32): void {`,
    ...unpacked(kernel, used),
    ...flags(variants),
    `  const rows = <usize>loadU32(call + ${4 * callWords.rows});`,
    `  const width = <i32>loadU32(call + ${4 * callWords.width});`,
    '  const stride = (<usize>width) << 2;',
    `  for (let group = begin; group < end; group += ${GROUP_ROWS}) {`,
    `    const groupEnd = min<i32>(end, group + ${GROUP_ROWS});`,
    '    for (let row = group; row < groupEnd; row++) {',
    `      const at = ${offset};`,
    ...pointersOf(kernel, used).flatMap((name) => (name === 'g' ? [] : [`      loadU32(${name} + at);`])),
    '    }',
    '    for (let row = group; row < groupEnd; row++) {',
    `      const at = ${offset};`,
    ...dispatch(kernel, variants, args, '      '),
    '    }',
    '  }',
    '}',
    '',
  ].join('\n');
}
