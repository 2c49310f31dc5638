import { Tensor } from 'onnxruntime-node';
import { type ErrorDetails, type ErrorKey, isRxgradError, RxgradError } from '../errors.ts';
import type { Position } from '../events.ts';
import { datatypeOf, onnxTypeOf, type TensorData } from './datatypes.ts';
import type { InferContext, InferParameters, InferRequest, InferResponse, InferTensor } from './infer-request.ts';
import { type ServablePrediction, type ServedModel, type ServedModels, versionOf } from './served-models.ts';
import { shownText } from './shown-text.ts';

/** Answers a request of the Open Inference Protocol. What is wrong with it is an error with the status to answer. */
export async function infer(models: ServedModels, request: InferRequest, context: InferContext = {}): Promise<InferResponse> {
  const model = models.find(request.model);
  const start = performance.now();
  let isAnswered = false;
  try {
    if (!model.ready) throw new RxgradError('notReady', { model: model.name });
    const feeds = feedsOf(model, request.inputs);
    assertOutputs(model, request);
    const prediction = await model.session.predict(feeds, {
      version: request.version === null ? undefined : versionOf(request.version),
      signal: context.signal,
      deadlineMs: deadlineOf(model, request.parameters, context.deadlineMs),
    });
    isAnswered = true;
    return {
      model: model.name,
      version: String(prediction.version),
      id: request.id,
      parameters: parametersOf(prediction),
      outputs: outputsOf(model, request, prediction),
    };
  } catch (error) {
    throw underItsName(model, error);
  } finally {
    model.figures.count(isAnswered, performance.now() - start);
  }
}

/** Sessions call a model by the path of its file, which is no business of clients. */
function underItsName({ name }: ServedModel, error: unknown): unknown {
  if (!isRxgradError(error) || error.details.model === undefined || error.details.model === name) return error;
  const details = { ...error.details, model: name };
  return new RxgradError(error.key, details as ErrorDetails<ErrorKey>, { cause: error });
}

/** How many elements a shape has; it is checked already. */
export function elementsOf(shape: readonly number[]): number {
  let elements = 1;
  for (const size of shape) elements *= size;
  return elements;
}

/** A place in the log as one text. */
export function positionText({ topic, partition, offset }: Position): string {
  return `${topic}/${partition}/${offset}`;
}

/** The tensors of a request as a session takes them. */
export function feedsOf(model: ServedModel, inputs: readonly InferTensor[]): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = Object.create(null);
  for (const { name, datatype, shape, data } of inputs) {
    const signature = model.inputs.get(name);
    if (!signature) {
      throw problemOf(model, name, `to be one of ${[...model.inputs.keys()].join(', ') || 'none'}`, 'another name');
    }
    if (datatype !== signature.datatype) throw problemOf(model, name, `as ${signature.datatype}`, datatype);
    if (name in feeds) throw problemOf(model, name, 'once', 'it twice');
    const elements = elementsOf(shape);
    if (data.length !== elements) {
      throw problemOf(model, name, `with ${elements} elements, as its shape [${shape}] says`, `${data.length}`);
    }
    if (datatype === 'BYTES' && (data as readonly string[]).some((text) => text.includes('\0'))) {
      // onnxruntime-node would cut the text off there, silently.
      throw problemOf(model, name, 'as text without zero bytes', 'some');
    }
    feeds[name] = new Tensor(onnxTypeOf(datatype) as 'float32', data as Float32Array, shape as number[]);
  }
  return feeds;
}

function assertOutputs(model: ServedModel, { outputs }: InferRequest): void {
  for (const { name } of outputs) {
    if (model.outputs.has(name)) continue;
    const expected = `an output of the model (${[...model.outputs.keys()].join(', ')})`;
    throw new RxgradError('invalidRequest', { where: model.name, expected, got: `"${shownText(name)}"` });
  }
}

function outputsOf(model: ServedModel, { outputs }: InferRequest, prediction: ServablePrediction): InferTensor[] {
  const names = outputs.length === 0 ? model.outputs.keys() : outputs.map(({ name }) => name);
  const tensors: InferTensor[] = [];
  for (const name of names) {
    const { type, dims, data } = prediction.outputs[name]!;
    tensors.push({
      name,
      datatype: datatypeOf(type)!,
      shape: dims,
      data: type === 'float16' ? bitsOf(data) : (data as TensorData),
    });
  }
  return tensors;
}

/** onnxruntime gives half floats as an array of their own, where there is one. */
function bitsOf(data: Tensor['data']): Uint16Array {
  const { buffer, byteOffset, length } = data as Uint16Array;
  return new Uint16Array(buffer, byteOffset, length);
}

function parametersOf({ version, ageMs, position, stale }: ServablePrediction): InferParameters {
  const parameters: Record<string, string | number | boolean> = { version, age_ms: Math.round(ageMs) };
  if (position) parameters.position = positionText(position);
  if (stale) parameters.stale = true;
  return parameters;
}

/** `timeout_ms`, or Triton's `timeout` in microseconds. */
function deadlineOf(model: ServedModel, parameters: InferParameters, most: number | undefined): number | undefined {
  const { timeout_ms: milliseconds, timeout: microseconds } = parameters;
  const asked = milliseconds ?? (typeof microseconds === 'number' && microseconds > 0 ? microseconds / 1000 : undefined);
  if (asked === undefined) return most;
  if (typeof asked === 'number' && asked > 0) return most === undefined ? asked : Math.min(asked, most);
  const where = `${model.name}: parameter timeout_ms`;
  throw new RxgradError('invalidRequest', { where, expected: 'milliseconds above 0', got: shownText(String(asked)) });
}

function problemOf(model: ServedModel, input: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidFeed', { model: model.name, input: shownText(input), expected, got });
}
