import { create, type Message } from '@bufbuild/protobuf';
import { RxgradError } from '../../errors.ts';
import { type Datatype, datatypeNames, isDatatype, type NumericDatatype, numericArray, type TensorData } from '../datatypes.ts';
import type { InferParameters, InferRequest, InferResponse, InferTensor, RequestedOutput } from '../infer-request.ts';
import { readRaw, textOf, writeRaw } from '../raw-contents.ts';
import { shownText } from '../shown-text.ts';
import {
  type InferParameter,
  InferParameterSchema,
  type InferTensorContents,
  type ModelInferRequest,
  type ModelInferRequest_InferInputTensor,
  type ModelInferRequest_InferRequestedOutputTensor,
  type ModelInferResponse,
  ModelInferResponse_InferOutputTensorSchema,
  ModelInferResponseSchema,
} from './inference_pb.ts';

type Values = Exclude<keyof InferTensorContents, keyof Message>;

/** How much one request may hold beside the limit on its bytes. */
export interface InferLimits {
  /** Inputs, and outputs asked for. */
  readonly tensors: number;
  /** Elements of one tensor. */
  readonly elements: number;
}

const MOST_DIMS = 16;

/** Where `contents` holds the elements of a type. Half floats have no place there. */
const places: Readonly<Partial<Record<Datatype, Values>>> = {
  BOOL: 'boolContents',
  INT8: 'intContents',
  INT16: 'intContents',
  INT32: 'intContents',
  INT64: 'int64Contents',
  UINT8: 'uintContents',
  UINT16: 'uintContents',
  UINT32: 'uintContents',
  UINT64: 'uint64Contents',
  FP32: 'fp32Contents',
  FP64: 'fp64Contents',
  BYTES: 'bytesContents',
};

/** Reads a request's message. Its tensors are lent: views of the bytes that came, where those lie as they have to. */
export function requestOf(message: ModelInferRequest, limits: InferLimits): InferRequest {
  const { inputs, outputs, rawInputContents: raw } = message;
  assertCount('inputs', inputs.length, limits);
  assertCount('outputs', outputs.length, limits);
  if (raw.length > 0 && raw.length !== inputs.length) {
    throw problemOf('raw_input_contents', `one for each of the ${inputs.length} inputs, or none`, `${raw.length}`);
  }
  return {
    model: message.modelName,
    version: message.modelVersion === '' ? null : message.modelVersion,
    id: message.id,
    parameters: parametersOf(message.parameters),
    inputs: inputs.map((input, i) => tensorOf(input, raw[i], limits)),
    outputs: outputs.map(outputOf),
  };
}

/** Writes a response's message. Its tensors are raw, in the order of the outputs. */
export function responseOf({ model, version, id, parameters, outputs }: InferResponse): ModelInferResponse {
  return create(ModelInferResponseSchema, {
    modelName: model,
    modelVersion: version,
    id,
    parameters: parameterMessages(parameters),
    outputs: outputs.map(({ name, datatype, shape }) =>
      create(ModelInferResponse_InferOutputTensorSchema, { name, datatype, shape: shape.map(BigInt) }),
    ),
    rawOutputContents: outputs.map(writeRaw),
  });
}

function assertCount(where: string, got: number, { tensors }: InferLimits): void {
  if (got > tensors) throw new RxgradError('requestTooLarge', { where, expected: `${tensors} of them`, got });
}

function outputOf({ name, parameters: given }: ModelInferRequest_InferRequestedOutputTensor): RequestedOutput {
  const parameters = parametersOf(given);
  for (const unsupported of ['shared_memory_region', 'classification']) {
    if (parameters[unsupported] !== undefined) throw problemOf(`output "${shownText(name)}"`, 'no such parameter', unsupported);
  }
  return { name, parameters };
}

function tensorOf(input: ModelInferRequest_InferInputTensor, raw: Uint8Array | undefined, limits: InferLimits): InferTensor {
  const { datatype, contents } = input;
  const name = shownText(input.name);
  if (!isDatatype(datatype)) {
    throw problemOf(`tensor "${name}"`, `a datatype (${datatypeNames.join(', ')})`, `"${shownText(datatype)}"`);
  }
  if (input.parameters.shared_memory_region !== undefined) {
    throw problemOf(`tensor "${name}"`, 'its data in the request', 'a region of shared memory');
  }
  const { shape, elements } = shapeOf(name, input.shape, limits);
  const filled = contents ? filledOf(contents) : [];
  if (raw && filled.length > 0) throw problemOf(`tensor "${name}"`, 'contents or raw_input_contents', 'both');
  const data = raw ? readRaw(name, datatype, elements, raw) : typedData(name, datatype, elements, contents, filled);
  return { name: input.name, datatype, shape, data };
}

function shapeOf(name: string, dims: readonly bigint[], limits: InferLimits): { shape: number[]; elements: number } {
  const where = `tensor "${name}"`;
  if (dims.length > MOST_DIMS) throw problemOf(where, `a shape of at most ${MOST_DIMS} sizes`, `${dims.length}`);
  const shape = dims.map(Number);
  const isShape = shape.every((dim) => dim >= 0 && Number.isSafeInteger(dim));
  if (!isShape) throw problemOf(where, 'a shape of whole numbers from 0 on', `[${shape}]`);
  const elements = shape.reduce((size, dim) => size * dim, 1);
  if (elements <= limits.elements) return { shape, elements };
  throw new RxgradError('requestTooLarge', { where, expected: `${limits.elements} elements`, got: `[${shape}]` });
}

function filledOf(contents: InferTensorContents): Values[] {
  return (Object.keys(contents) as Values[]).filter((key) => Array.isArray(contents[key]) && contents[key].length > 0);
}

function typedData(
  name: string,
  datatype: Datatype,
  elements: number,
  contents: InferTensorContents | undefined,
  filled: readonly Values[],
): TensorData {
  const place = places[datatype];
  const where = `tensor "${name}"`;
  if (!place) throw problemOf(where, `${datatype} in raw_input_contents`, 'none there');
  const stray = filled.find((key) => key !== place);
  if (stray) throw problemOf(where, `${datatype} in ${fieldOf(place)}`, `values in ${fieldOf(stray)}`);
  const values = contents?.[place] ?? [];
  // Before anything is made in the size that the shape says.
  if (values.length !== elements) {
    throw problemOf(where, `${elements} elements in ${fieldOf(place)}, or in raw_input_contents`, `${values.length}`);
  }
  if (place === 'bytesContents') return (values as Uint8Array[]).map((bytes) => textOf(name, bytes));
  const data = numericArray(datatype as NumericDatatype, elements);
  for (let i = 0; i < elements; i++) data[i] = values[i] as number;
  if (place === 'intContents' || place === 'uintContents') {
    const wrong = data.findIndex((value, i) => value !== values[i]);
    if (wrong >= 0) throw problemOf(where, `${datatype}`, `${values[wrong]}`);
  }
  return data;
}

function fieldOf(place: Values): string {
  return place.replace('Contents', '_contents');
}

function parametersOf(messages: Readonly<Record<string, InferParameter>>): InferParameters {
  return Object.fromEntries(
    Object.entries(messages).flatMap(
      ([
        name,
        {
          parameterChoice: { value },
        },
      ]) => (value === undefined ? [] : [[name, typeof value === 'bigint' ? Number(value) : value]]),
    ),
  );
}

function parameterMessages(parameters: InferParameters): Record<string, InferParameter> {
  return Object.fromEntries(Object.entries(parameters).map(([name, value]) => [name, parameterMessage(value)]));
}

function parameterMessage(value: string | number | boolean): InferParameter {
  if (typeof value === 'string')
    return create(InferParameterSchema, { parameterChoice: { case: 'stringParam', value: value.toWellFormed() } });
  if (typeof value === 'boolean') return create(InferParameterSchema, { parameterChoice: { case: 'boolParam', value } });
  if (!Number.isSafeInteger(value)) return create(InferParameterSchema, { parameterChoice: { case: 'doubleParam', value } });
  return create(InferParameterSchema, { parameterChoice: { case: 'int64Param', value: BigInt(value) } });
}

function problemOf(where: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidRequest', { where, expected, got });
}
