import type { Datatype, TensorData } from './datatypes.ts';

/** What a request, a tensor or a response says besides. */
export type InferParameters = Readonly<Record<string, string | number | boolean>>;

/** A tensor of a request or of a response. */
export interface InferTensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** An output that a request asks for. */
export interface RequestedOutput {
  readonly name: string;
  readonly parameters: InferParameters;
}

/** A request of the Open Inference Protocol, whatever it came through. */
export interface InferRequest {
  readonly model: string;
  /** The number of a kept version, or a label; null for the live weights. */
  readonly version: string | null;
  readonly id: string;
  readonly parameters: InferParameters;
  readonly inputs: readonly InferTensor[];
  /** Empty for all of them. */
  readonly outputs: readonly RequestedOutput[];
}

export interface InferResponse {
  readonly model: string;
  /** The number of the weights that computed it. */
  readonly version: string;
  /** The request's, as it came. */
  readonly id: string;
  /** `version` and `age_ms` of the weights; `position` in the log that made them, and `stale`, where there is such a thing to say. */
  readonly parameters: InferParameters;
  readonly outputs: readonly InferTensor[];
}

/** Which request of which trace it is. */
export interface RequestOrigin {
  readonly requestId: string;
  readonly traceId: string;
  readonly spanId: string;
}

/** What holds for a request besides what it says itself. */
export interface InferContext {
  /** Gives the request up. */
  readonly signal?: AbortSignal | undefined;
  /** How long the answer may take; the request's own `timeout_ms` may only shorten it. */
  readonly deadlineMs?: number | undefined;
  /** Is asked where somebody listens for answers. */
  readonly origin?: (() => RequestOrigin) | undefined;
}

// Of a text, beside its characters.
const TEXT_BYTES = 32;

/** About how much memory the elements of tensors take. */
export function decodedBytes(tensors: readonly InferTensor[]): number {
  let bytes = 0;
  for (const { data } of tensors) {
    if (ArrayBuffer.isView(data)) bytes += data.byteLength;
    else for (const text of data as readonly string[]) bytes += TEXT_BYTES + 2 * text.length;
  }
  return bytes;
}
