/** A value in each lane: what kernels are written with. Made by the functions of this file alone. */
export interface Lanes {
  readonly op: Op;
  readonly operands: readonly Lanes[];
  /** The name of an `input`, the number of a `constant`. */
  readonly value: string | number | null;
}

export type Op =
  | 'input'
  | 'constant'
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'sqrt'
  | 'abs'
  | 'min'
  | 'max'
  | 'greater'
  | 'equal'
  | 'select';

/** What an operation takes: a number stands for itself in every lane. */
type Operand = Lanes | number;

/** One pass over a parameter, as a step runs it: `name(call, begin, end)` of the WebAssembly module. */
export interface Kernel<Scalar extends string = string> {
  readonly name: string;
  /** State that it reads or writes, by name. */
  readonly arrays: readonly string[];
  /** Numbers that a step gives it. */
  readonly scalars: readonly Scalar[];
  /** How many sums it leaves behind for each block of {@link SUM_BLOCK} elements. */
  readonly sumCount: number;
  /** Whether it goes element by element, so that any part of a parameter can be done by itself; else it needs the shape. */
  readonly byElement: boolean;
}

/**
 * A kernel that goes element by element: reads weights, gradient and state once and writes each at most once. The build
 * makes one SIMD loop of it (`build/emit-kernel.ts`).
 */
export interface ElementKernel<Scalar extends string = string> extends Kernel<Scalar> {
  /** Whether `g` is the gradient behind clipping and decay (the first pass of a rule), or what an earlier pass left there. */
  readonly prologue: boolean;
  /** What is written where: `w` stands for the new weights. */
  readonly stores: Readonly<Record<string, Lanes>>;
  /** What is added up in float64, block by block. */
  readonly sums: readonly Lanes[];
}

export const MAXIMUM_ARRAYS = 6;
export const MAXIMUM_SCALARS = 12;

/** Elements of a block whose sums are added up by themselves. */
export const SUM_BLOCK = 8192;

/**
 * Defines a kernel. The body gets, by name, `w` (the weights that the step starts from), `out` (what was written as `w` by
 * an earlier pass), `g`, `lr`, the arrays and the scalars; it returns what to store, and under `sums` what to add up.
 *
 * @example
 * kernel('momentum', { arrays: ['velocity'], scalars: ['momentum'] }, ({ w, g, lr, velocity, momentum }) => {
 *   const next = add(mul(momentum, velocity), g);
 *   return { velocity: next, w: sub(w, mul(lr, next)) };
 * });
 */
export function kernel<A extends string = never, S extends string = never>(
  name: string,
  signature: { readonly arrays?: readonly A[]; readonly scalars?: readonly S[]; readonly prologue?: boolean },
  body: (
    x: Readonly<Record<A | S | 'w' | 'out' | 'g' | 'lr', Lanes>>,
  ) => { readonly [N in A | 'w' | 'g']?: Lanes } & { readonly sums?: readonly Lanes[] },
): ElementKernel<S> {
  const { arrays = [], scalars = [], prologue = true } = signature;
  const names = ['w', 'out', 'g', 'lr', ...arrays, ...scalars];
  const inputs = Object.fromEntries(names.map((value) => [value, { op: 'input', operands: [], value }])) as never;
  const { sums = [], ...stores } = body(inputs);
  const written = stores as Readonly<Record<string, Lanes>>;
  return { name, arrays, scalars, prologue, stores: written, sums, sumCount: sums.length, byElement: true };
}

/** Names a kernel of `assembly/` that goes over a whole parameter and needs its shape: rank and dims, at `rows` of its call. */
export function shapedKernel<S extends string = never>(
  name: string,
  { arrays = [], scalars = [], sumCount = 0 }: { arrays?: readonly string[]; scalars?: readonly S[]; sumCount?: number },
): Kernel<S> {
  return { name, arrays, scalars, sumCount, byElement: false };
}

export const add = (a: Operand, b: Operand): Lanes => lanes('add', a, b);
export const sub = (a: Operand, b: Operand): Lanes => lanes('sub', a, b);
export const mul = (a: Operand, b: Operand): Lanes => lanes('mul', a, b);
export const div = (a: Operand, b: Operand): Lanes => lanes('div', a, b);
export const sqrt = (a: Operand): Lanes => lanes('sqrt', a);
export const abs = (a: Operand): Lanes => lanes('abs', a);
export const min = (a: Operand, b: Operand): Lanes => lanes('min', a, b);
export const max = (a: Operand, b: Operand): Lanes => lanes('max', a, b);
/** All bits set where a > b: a condition for {@link select}. */
export const greater = (a: Operand, b: Operand): Lanes => lanes('greater', a, b);
export const equal = (a: Operand, b: Operand): Lanes => lanes('equal', a, b);
/** `a` where the condition holds, else `b`. */
export const select = (condition: Lanes, a: Operand, b: Operand): Lanes => lanes('select', a, b, condition);
export const square = (a: Lanes): Lanes => mul(a, a);
/** −1, 0 or 1. */
export const sign = (a: Lanes): Lanes => select(greater(a, 0), 1, select(greater(0, a), -1, 0));
/** The moving average b · average + (1 − b) · x, where `rest` is 1 − b. */
export const moving = (average: Lanes, x: Operand, b: Lanes, rest: Lanes): Lanes => add(mul(b, average), mul(rest, x));

function lanes(op: Op, ...operands: Operand[]): Lanes {
  return {
    op,
    operands: operands.map((x) => (typeof x === 'number' ? { op: 'constant', operands: [], value: x } : x)),
    value: null,
  };
}
