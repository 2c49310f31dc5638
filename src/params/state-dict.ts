import { RxgradError } from '../errors.ts';
import { type FileTensor, readTensorFile, writeTensorFile } from './tensor-file.ts';
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
  /** Whether every tensor must find its place, and every place its tensor. */
  readonly strict: boolean;
}

/** A file that was read and found to fit. */
export interface StateDict {
  readonly weights: Readonly<Record<string, Float32Array>>;
  readonly version: number | null;
  readonly state: KeptState | null;
}

const FORMAT = '1';

/** What others call an optimizer's tensors. */
const keys: Readonly<Record<string, string>> = {
  velocity: 'momentum_buffer',
  trace: 'momentum_buffer',
  mu: 'exp_avg',
  mean: 'exp_avg',
  nu: 'exp_avg_sq',
  square: 'exp_avg_sq',
  count: 'step',
};
const prefixes = ['optimizer.', 'optim.', 'opt_state.', 'state.'];

/** Writes weights under their own names and state as `state.<parameter>.<key>`. */
export function writeStateDict(
  places: readonly ParameterPlace[],
  weights: Weights,
  version: number,
  state: KeptState | null,
): Uint8Array {
  const tensors = [
    ...places.map(({ name, dims }) => [name, { dims, data: weights[name]! }] as const),
    ...(state?.tensors ?? []).map((tensor) => [`state.${tensor.parameter}.${tensor.key}`, tensor] as const),
  ];
  const facts = state?.facts ? { 'rxgrad.state': JSON.stringify(state.facts) } : {};
  return writeTensorFile(tensors, { 'rxgrad.format': FORMAT, 'rxgrad.version': String(version), ...facts });
}

/** Reads what {@link writeStateDict} wrote, or a checkpoint of others. Fails with all that does not fit. */
export function readStateDict(places: readonly ParameterPlace[], file: Uint8Array, where: string, strict: boolean): StateDict {
  const { tensors, metadata } = readTensorFile(file, where);
  const format = metadata['rxgrad.format'];
  if (format !== undefined && format !== FORMAT) {
    throw new RxgradError('invalidCheckpoint', { where, expected: `format ${FORMAT}`, got: `format ${format}` });
  }
  const byName = new Map(places.map((place) => [place.name, place]));
  const weights: Record<string, Float32Array> = {};
  const state: StateTensor[] = [];
  const differences: string[] = [];
  for (const [name, tensor] of tensors) {
    const place = byName.get(name);
    const owner = place ? null : ownerOf(name, byName);
    if (place && String(place.dims) === String(tensor.dims)) weights[name] = tensor.data;
    else if (place) differences.push(`"${name}" has dims [${place.dims}], got [${tensor.dims}]`);
    else if (owner) state.push({ ...tensor, ...owner });
    else differences.push(`"${name}" is no parameter, nor an optimizer's state of one`);
  }
  for (const { name, dims } of places) if (!tensors.has(name)) differences.push(`"${name}" [${dims}] is missing`);
  if (strict && differences.length > 0) throw new RxgradError('parametersDiffer', { differences: differences.join('; ') });
  const facts = factsOf(metadata['rxgrad.state'], where);
  return {
    weights,
    version: format === undefined ? null : Number(metadata['rxgrad.version']),
    state: state.length > 0 || facts ? { tensors: state, facts, strict } : null,
  };
}

/** Whose state a name stands for: `<parameter>.<key>` or `<key>.<parameter>`, behind any prefixes. */
function ownerOf(name: string, parameters: ReadonlyMap<string, unknown>): { parameter: string; key: string } | null {
  let rest = name;
  for (let prefix = prefixOf(rest); prefix; prefix = prefixOf(rest)) rest = rest.slice(prefix.length);
  const [first, last] = [rest.indexOf('.'), rest.lastIndexOf('.')];
  for (const [parameter, key] of [
    [rest.slice(0, last), rest.slice(last + 1)],
    [rest.slice(first + 1), rest.slice(0, first)],
  ] as const) {
    if (first !== -1 && parameters.has(parameter)) return { parameter, key: keys[key] ?? key };
  }
  return null;
}

function prefixOf(name: string): string | undefined {
  return prefixes.find((prefix) => name.startsWith(prefix));
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
