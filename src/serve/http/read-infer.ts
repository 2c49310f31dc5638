import { RxgradError } from '../../errors.ts';
import { bytesPerElement, datatypeNames, isDatatype } from '../datatypes.ts';
import type { InferRequest, InferTensor, RequestedOutput } from '../infer-request.ts';
import { readRaw } from '../raw-contents.ts';
import type { ServedModel } from '../served-models.ts';
import { shownText } from '../shown-text.ts';
import { asObject, type JsonObject, kindOf, readJsonObject, readParameters } from './read-json.ts';
import { readTensorJson } from './tensor-json.ts';

/** How much one request may hold beside the limit on its body. */
export interface InferLimits {
  /** Inputs, and outputs asked for. */
  readonly tensors: number;
  /** Elements of one tensor. */
  readonly elements: number;
}

const MOST_DIMS = 16;

/**
 * Reads the body of an inference request: JSON, or, where `Inference-Header-Content-Length` came, that many bytes of JSON and
 * the tensors' bytes behind it. A length of 0 stands for the bytes of the only input.
 */
export function readInfer(
  model: ServedModel,
  version: string | null,
  body: Buffer,
  headerLength: number | null,
  limits: InferLimits,
): InferRequest {
  if (headerLength === 0) return readBare(model, version, body, limits);
  if (headerLength !== null && headerLength > body.length) {
    throw problemOf('Inference-Header-Content-Length', `at most the ${body.length} bytes of the body`, `${headerLength}`);
  }
  const header = headerLength === null ? body : body.subarray(0, headerLength);
  const request = readJsonObject(header, 'body');
  const { id, inputs, outputs } = request;
  if (id !== undefined && typeof id !== 'string') throw problemOf('id', 'text', kindOf(id));
  const binary = new BinaryPart(body, header.length);
  const tensors: InferTensor[] = [];
  for (const input of listOf(inputs, 'inputs', limits))
    tensors.push(readInput(asObject(input, 'inputs'), binary, limits, header));
  binary.assertDone();
  return {
    model: model.name,
    version,
    id: id ?? '',
    parameters: readParameters(request.parameters, 'body'),
    inputs: tensors,
    outputs: outputs === undefined ? [] : listOf(outputs, 'outputs', limits).map(readOutput),
  };
}

/** The tensors' bytes behind the JSON, in the order of the inputs. */
class BinaryPart {
  readonly #body: Buffer;
  #offset: number;

  constructor(body: Buffer, offset: number) {
    this.#body = body;
    this.#offset = offset;
  }

  take(name: string, size: number): Buffer {
    const left = this.#body.length - this.#offset;
    if (size > left) throw problemOf(`tensor "${name}"`, `${size} bytes behind the JSON`, `${left}`);
    this.#offset += size;
    return this.#body.subarray(this.#offset - size, this.#offset);
  }

  assertDone(): void {
    const left = this.#body.length - this.#offset;
    if (left > 0) throw problemOf('body', 'no bytes behind those of the tensors', `${left} more`);
  }
}

function readInput(input: JsonObject, binary: BinaryPart, limits: InferLimits, header: Buffer): InferTensor {
  const { name: sent, datatype, data, parameters: given } = input;
  if (typeof sent !== 'string') throw problemOf('inputs', 'each with a name', kindOf(sent));
  const name = shownText(sent);
  const where = `tensor "${name}"`;
  if (!isDatatype(datatype)) {
    const got = typeof datatype === 'string' ? `"${shownText(datatype)}"` : kindOf(datatype);
    throw problemOf(where, `a datatype of ${datatypeNames.join(', ')}`, got);
  }
  const shape = readShape(input.shape, where);
  const elements = elementsOf(shape, where, limits);
  const parameters = readParameters(given, where);
  const size = parameters.binary_data_size;
  if (parameters.shared_memory_region !== undefined) {
    throw problemOf(where, 'its data in the request', 'a region of shared memory');
  }
  if (size === undefined) {
    // An element takes a character and a comma, so no shape makes this allocate more than came.
    if (elements > header.length) throw problemOf(where, `${elements} elements, as its shape [${shape}] says`, 'fewer');
    return { name: sent, datatype, shape, data: readTensorJson(name, datatype, shape, elements, data) };
  }
  if (data !== undefined) throw problemOf(where, 'data or binary_data_size', 'both');
  if (!isCount(size)) throw problemOf(`${where}: binary_data_size`, 'a number of bytes', shownText(String(size)));
  return { name: sent, datatype, shape, data: readRaw(name, datatype, elements, binary.take(name, size)) };
}

function readOutput(value: unknown): RequestedOutput {
  const output = asObject(value, 'outputs');
  const { name } = output;
  if (typeof name !== 'string') throw problemOf('outputs', 'each with a name', kindOf(name));
  const where = `output "${shownText(name)}"`;
  const parameters = readParameters(output.parameters, where);
  for (const unsupported of ['shared_memory_region', 'classification']) {
    if (parameters[unsupported] !== undefined) throw problemOf(where, 'no such parameter', unsupported);
  }
  return { name, parameters };
}

function readShape(shape: unknown, where: string): number[] {
  if (!Array.isArray(shape)) throw problemOf(where, 'a shape', kindOf(shape));
  if (shape.length > MOST_DIMS) throw problemOf(where, `a shape of at most ${MOST_DIMS} sizes`, `${shape.length}`);
  for (const size of shape) {
    if (!isCount(size))
      throw problemOf(where, 'a shape of whole numbers from 0 on', typeof size === 'number' ? `${size}` : kindOf(size));
  }
  return shape as number[];
}

function elementsOf(shape: readonly number[], where: string, limits: InferLimits): number {
  let elements = 1;
  for (const size of shape) elements *= size;
  if (elements <= limits.elements) return elements;
  throw new RxgradError('requestTooLarge', { where, expected: `${limits.elements} elements`, got: `shape [${shape}]` });
}

function listOf(value: unknown, where: string, limits: InferLimits): readonly unknown[] {
  if (!Array.isArray(value)) throw problemOf(where, 'an array', kindOf(value));
  if (value.length <= limits.tensors) return value;
  throw new RxgradError('requestTooLarge', { where, expected: `${limits.tensors} tensors`, got: `${value.length}` });
}

/** The bytes of a model's only input: one size of its shape may follow from how many there are. */
function readBare(model: ServedModel, version: string | null, body: Buffer, limits: InferLimits): InferRequest {
  const [input, ...others] = model.inputs.values();
  const open = input?.shape.filter((size) => size < 0).length ?? 0;
  const texts = input?.datatype === 'BYTES';
  if (!input || others.length > 0 || open > 1 || (texts && input.shape.length !== 1)) {
    throw problemOf('Inference-Header-Content-Length', `a JSON header, as ${model.name} needs one`, '0');
  }
  const rest = input.shape.reduce((product, size) => (size < 0 ? product : product * size), 1);
  const found = texts ? 1 : body.length / bytesPerElement(input.datatype) / rest;
  if (open > 0 && !isCount(found)) {
    throw problemOf(`tensor "${input.name}"`, `a multiple of ${rest * bytesPerElement(input.datatype)} bytes`, `${body.length}`);
  }
  const shape = input.shape.map((size) => (size < 0 ? found : size));
  const elements = elementsOf(shape, `tensor "${input.name}"`, limits);
  const data = readRaw(input.name, input.datatype, elements, body);
  const inputs = [{ name: input.name, datatype: input.datatype, shape, data }];
  return { model: model.name, version, id: '', parameters: { binary_data_output: true }, inputs, outputs: [] };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function problemOf(where: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidRequest', { where, expected, got });
}
