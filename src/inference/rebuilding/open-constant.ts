import type { InferenceSession } from 'onnxruntime-node';
import { weightsFile } from '../onnx/with-external-weights.ts';
import { type ModelSource, type Opening, openSession } from '../open-session.ts';

/**
 * Opens a session with the weights as constants. onnxruntime reads them in shared memory as they lie there, and has copied what
 * it keeps when the session is open.
 */
export function openConstant(
  model: ModelSource,
  options: InferenceSession.SessionOptions,
  weights: SharedArrayBuffer,
): Promise<{ readonly session: InferenceSession; readonly opening: Opening }> {
  const externalData = [...(options.externalData ?? []), { path: weightsFile, data: new Uint8Array(weights) }];
  return openSession(model, { ...options, externalData });
}
