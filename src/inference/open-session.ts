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
