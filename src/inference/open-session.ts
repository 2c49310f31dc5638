import { InferenceSession } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';

/** A model as a session is opened on it. Survives `postMessage` and `workerData`. */
export interface ModelSource {
  /** What errors call it. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Where its files of external data are. */
  readonly folder: string | undefined;
}

/** What a model gives. */
export interface ModelOutput {
  readonly name: string;
  /** As onnxruntime names it (`float32`, `int64`, …). */
  readonly type: string;
  /** A number where it is fixed, else its symbolic name (`?` where it has none). */
  readonly dims: readonly (number | string)[];
}

/** Opens onnxruntime's session, on one thread unless the options say otherwise. */
export async function openSession(
  { name, bytes, folder }: ModelSource,
  options: InferenceSession.SessionOptions = {},
): Promise<InferenceSession> {
  const external = folder === undefined ? {} : { extra: { session: { model_external_initializers_file_folder_path: folder } } };
  try {
    return await InferenceSession.create(bytes, { intraOpNumThreads: 1, interOpNumThreads: 1, ...external, ...options });
  } catch (cause) {
    throw new RxgradError(
      'invalidModel',
      { model: name, got: `one that onnxruntime refuses: ${(cause as Error).message}` },
      { cause },
    );
  }
}

/** Lists what a session gives, in order: onnxruntime knows shapes that the file does not tell. */
export function outputsOf({ outputMetadata }: InferenceSession): ModelOutput[] {
  return outputMetadata.map((output) => {
    if (!output.isTensor) return { name: output.name, type: 'not a tensor', dims: [] };
    return { name: output.name, type: output.type, dims: output.shape.map((dim) => dim || '?') };
  });
}
