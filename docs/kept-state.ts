import type { Rule, StateSpec } from '../src/optimizers/rule.ts';
import { code, written } from './markdown.ts';

/** Dims of parameters for which those of their state are shown, where they differ. */
export const sampleDims = [[20, 30], [30]] as const;

/** Options, and others that may change what is kept: each flag turned, each number that is off switched on. */
export function variantsOf<O extends Readonly<Record<string, unknown>>>(defaults: O): { changed: string; options: O }[] {
  const others = Object.entries(defaults).flatMap(([name, value]) => {
    const off = value === 0 || value === null;
    if (!off && typeof value !== 'boolean') return [];
    const other = off ? 0.9 : !value;
    return { changed: `${name}: ${code(other)}`, options: { ...defaults, [name]: other } };
  });
  return [{ changed: '', options: defaults }, ...others];
}

/** What a rule keeps for a parameter, and what its variants keep more, or instead. */
export function keptByVariants([usual, ...variants]: readonly { changed: string; rule: Rule }[]): string {
  const keys = keptBy(usual!.rule);
  const others = variants.flatMap(({ changed, rule }) => {
    const kept = keptBy(rule);
    const more = kept.filter(({ key }) => !keys.some((kept) => kept.key === key));
    const instead = keys.some(({ key }) => !kept.some((kept) => kept.key === key));
    if (more.length === 0 && !instead) return [];
    const words = instead ? `only ${inWords(kept)}` : `${keys.length > 0 ? 'also ' : ''}${inWords(more)}`;
    return `with \`${changed}\` ${words}`;
  });
  return [inWords(keys), ...others].join('; ');
}

interface Kept {
  readonly key: string;
  /** What is not the usual about it. */
  readonly remarks: readonly string[];
}

/** What a rule keeps for a parameter, by its names in a state dict. */
export function keptBy({ state }: Pick<Rule, 'state'>): Kept[] {
  return state.flatMap((spec) => {
    const dims = dimsOf(spec);
    return spec.scratch || dims === null ? [] : { key: spec.key ?? spec.name, remarks: [...dims, ...firstOf(spec)] };
  });
}

export function inWords(kept: readonly Kept[]): string {
  const words = kept.map(({ key, remarks }) => `\`${key}\`${remarks.length > 0 ? ` (${remarks.join(', ')})` : ''}`);
  return words.join(', ') || 'none';
}

/** Dims where they are not the parameter's own; null where nothing is kept. */
function dimsOf({ dims: own }: StateSpec): string[] | null {
  if (!own) return [];
  const shapes = sampleDims.map((of) => ({ of, dims: own(of) })).filter(({ dims }) => !dims.includes(0));
  if (shapes.length === 0) return null;
  if (shapes.every(({ dims }) => dims.length === 0)) return ['one number'];
  if (shapes.length === sampleDims.length && shapes.every(({ of, dims }) => code(of) === code(dims))) return [];
  return shapes.map(({ of, dims }) => `${code(dims)} for ${code(of)}`);
}

function firstOf({ initial = 0 }: StateSpec): string[] {
  if (initial === 0) return [];
  if (typeof initial === 'number') return [`at first ${written(initial)}`];
  const [lr, weight] = [2, 3];
  const first = initial(lr, weight);
  return [`at first ${first === lr ? 'the rate' : first === weight ? 'the weight' : 'of both the rate and the weight'}`];
}
