import { assertNoDifferences, RxgradError } from '../errors.ts';
import { type Meaning, meaningOf } from './foreign-names.ts';
import { type FileArray, type FileTensor, planTensorFile, readTensorFile, type TensorFilePlan } from './tensor-file.ts';
import type { ParameterPlace, Weights } from './weights-reader.ts';

/** A tensor that an optimizer keeps for a parameter. */
export interface StateTensor extends FileTensor {
  readonly parameter: string;
  /** torch's name, where torch has one: `momentum_buffer`, `exp_avg`, … */
  readonly key: string;
}

/** What goes with some weights: the tensors of an optimizer and, as JSON, all else that a scan needs to go on. */
export interface KeptState {
  readonly tensors: readonly StateTensor[];
  /** Null where a file of others has none. */
  readonly facts: Readonly<Record<string, unknown>> | null;
  /** The parameters in the order in which the facts list what they say of each: no other parameters need have that order. */
  readonly names: readonly string[];
  /** What of the facts is many numbers. */
  readonly arrays: Readonly<Record<string, FileArray>>;
  /** Whether every tensor must find its place, and every place its tensor. */
  readonly strict: boolean;
  /** Whether the scan that goes on from it must have the same options and stages. */
  readonly exact: boolean;
}

/** A file that was read and found to fit. */
export interface StateDict {
  readonly weights: Readonly<Record<string, Float32Array>>;
  readonly version: number | null;
  /** Where it is a checkpoint: of which course of training. */
  readonly course: string | null;
  readonly state: KeptState | null;
}

/** The metadata of a checkpoint that name its course of training. Other state dicts have none: the same log makes the same bytes. */
export const COURSE = 'rxgrad.course';

/** 1: sequences as text, in the facts. 2: as arrays. */
const FORMAT = 2;

/** Plans a file of weights under their own names and state as `state.<parameter>.<key>`. */
export function planStateDict(
  places: readonly ParameterPlace[],
  weights: Weights,
  version: number,
  state: KeptState | null,
  metadata: Readonly<Record<string, string>>,
): TensorFilePlan {
  const tensors = [
    ...places.map(({ name, dims }) => [name, { dims, data: weights[name]! }] as const),
    ...(state?.tensors ?? []).map((tensor) => [`state.${tensor.parameter}.${tensor.key}`, tensor] as const),
  ];
  const facts = state?.facts ? { 'rxgrad.state': JSON.stringify(state.facts) } : {};
  const all = {
    ...metadata,
    'rxgrad.format': String(FORMAT),
    'rxgrad.version': String(version),
    'rxgrad.weights': JSON.stringify(places.map(({ name }) => name)),
    ...facts,
  };
  return planTensorFile(tensors, all, state?.arrays);
}

/** Reads what {@link planStateDict} planned, or a checkpoint of others. Fails with all that does not fit. */
export function readStateDict(
  places: readonly ParameterPlace[],
  source: Uint8Array | string,
  { strict, exact }: { strict: boolean; exact: boolean },
): StateDict {
  const where = typeof source === 'string' ? source : 'state dict';
  const { tensors, arrays, unread, metadata } = readTensorFile(source);
  const format = metadata['rxgrad.format'];
  requireFormat(format, where);
  const byName = new Map(places.map((place) => [place.name, place]));
  const read = format === undefined ? meaningOf : ownMeaning;
  const weights: Record<string, Float32Array> = {};
  const state: StateTensor[] = [];
  const differences = [...unread].map(([name, dtype]) => `"${name}" is of a type that no weights have (${dtype})`);
  const found = new Set<string>();
  let count: FileTensor | undefined;
  for (const [name, tensor] of tensors) {
    const meaning = read(name, byName);
    if (!meaning) differences.push(`"${name}" is no parameter, nor an optimizer's state of one`);
    else if (meaning.kind === 'state') state.push({ ...tensor, parameter: meaning.parameter, key: meaning.key });
    else if (meaning.kind === 'count') count = tensor;
    else if (meaning.kind === 'weights') {
      const { dims } = byName.get(meaning.parameter)!;
      if (String(dims) === String(tensor.dims)) weights[meaning.parameter] = tensor.data;
      else differences.push(`"${meaning.parameter}" has dims [${dims}], got [${tensor.dims}]`);
      found.add(meaning.parameter);
    }
  }
  if (count && state.length > 0 && !state.some(({ key }) => key === 'step')) {
    for (const { name } of places) state.push({ ...count, parameter: name, key: 'step' });
  }
  for (const { name, dims } of places) if (!found.has(name)) differences.push(`"${name}" [${dims}] is missing`);
  if (strict) assertNoDifferences(differences);
  const facts = factsOf(metadata['rxgrad.state'], where);
  return {
    weights,
    version: format === undefined ? null : Number(metadata['rxgrad.version']),
    course: metadata[COURSE] ?? null,
    state:
      state.length > 0 || facts
        ? { tensors: state, facts, arrays, names: namesOf(metadata['rxgrad.weights']) ?? [], strict, exact }
        : null,
  };
}

/** Fails where a later version of rxgrad wrote a state: this one may know a part of it only. */
export function requireFormat(format: string | undefined, where: string): void {
  if (format === undefined) return;
  const number = /^[1-9]\d*$/.test(format) ? Number(format) : 0;
  if (number > 0 && number <= FORMAT) return;
  if (number > FORMAT) {
    throw new RxgradError('newerFormat', { where, expected: FORMAT, got: format });
  }
  throw new RxgradError('invalidCheckpoint', { where, expected: `a format up to ${FORMAT}`, got: `format ${format}` });
}

/** What parameters a file that {@link planStateDict} planned is of: their dims, and the whole model's names where it is a shard. */
export function shapeOfStateDict(source: Uint8Array | string): {
  readonly specs: Record<string, { dims: readonly number[] }>;
  readonly shardOf: readonly string[] | null;
} {
  const where = typeof source === 'string' ? source : 'state dict';
  const { tensors, metadata } = readTensorFile(source);
  const names = namesOf(metadata['rxgrad.weights']);
  if (!names?.every((name) => tensors.has(name))) {
    const expected = 'a state dict of rxgrad, which names its weights';
    throw new RxgradError('invalidCheckpoint', { where, expected, got: `${metadata['rxgrad.weights']}` });
  }
  const specs = Object.fromEntries(names.map((name) => [name, { dims: tensors.get(name)!.dims }]));
  return { specs, shardOf: namesOf(metadata['rxgrad.shardOf']) };
}

function namesOf(text: string | undefined): string[] | null {
  try {
    const names: unknown = JSON.parse(text ?? 'null');
    return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : null;
  } catch {
    return null;
  }
}

/** What a name of our own stands for: a parameter, or `state.<parameter>.<key>`. */
function ownMeaning(name: string, parameters: { has(name: string): boolean }): Meaning | null {
  if (parameters.has(name)) return { kind: 'weights', parameter: name };
  const [, parameter, key] = /^state\.(.+)\.([^.]+)$/s.exec(name) ?? [];
  return parameter !== undefined && parameters.has(parameter) ? { kind: 'state', parameter, key: key! } : null;
}

function factsOf(text: string | undefined, where: string): Readonly<Record<string, unknown>> | null {
  if (text === undefined) return null;
  try {
    const facts: unknown = JSON.parse(text);
    if (typeof facts === 'object' && facts !== null) return facts as Readonly<Record<string, unknown>>;
  } catch {
    // Said below.
  }
  throw new RxgradError('invalidCheckpoint', { where, expected: 'JSON as rxgrad.state', got: text.slice(0, 40) });
}
