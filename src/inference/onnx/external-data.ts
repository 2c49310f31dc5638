import { closeSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { RxgradError } from '../../errors.ts';
import { isExternal, type Model } from './model.ts';
import type { TensorProto } from './onnx_pb.ts';

/** A stretch of a file beside the model. */
interface Place {
  readonly file: string;
  readonly offset: number;
  /** Up to the end of the file where the model does not say. */
  readonly length: number;
}

/** Reads the values of an initializer that lie in another file; `expected` bytes of them, where that is known. */
export function externalBytes(model: Model, tensor: TensorProto, expected?: number): Uint8Array {
  const { file, offset, length } = placeOf(model, tensor, expected);
  if (expected !== undefined && length !== expected)
    throw wrong(model, tensor, `${length} bytes, where its dims take ${expected}`);
  const bytes = new Uint8Array(length);
  const opened = openSync(file, 'r');
  try {
    let read = 0;
    // A call reads 2 GiB at most, and may read less than it was asked for.
    while (read < length) {
      const more = readSync(opened, bytes, read, Math.min(length - read, 2 ** 30), offset + read);
      if (more === 0) throw wrong(model, tensor, `a file that ends at ${offset + read}: it was cut off meanwhile`);
      read += more;
    }
  } finally {
    closeSync(opened);
  }
  return bytes;
}

/** How many bytes the values of an initializer take in another file; 0 where they lie in the model. */
export function externalLength(model: Model, tensor: TensorProto): number {
  return isExternal(tensor) ? placeOf(model, tensor).length : 0;
}

function placeOf(model: Model, tensor: TensorProto, expected?: number): Place {
  const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
  const location = entries.get('location') ?? '';
  const file = pathOf(model, tensor, location);
  const { size } = statSync(file);
  const offset = wholeOf(entries.get('offset') ?? '0');
  const length = wholeOf(entries.get('length') ?? String(expected ?? size - offset));
  // Comparisons with NaN are false.
  if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
    const asked = `offset ${entries.get('offset') ?? 0}, length ${entries.get('length') ?? expected ?? 'up to its end'}`;
    throw wrong(model, tensor, `${asked} of the file "${location}", which has ${size} bytes`);
  }
  return { file, offset, length };
}

/** The file itself, which is in the model's folder: not by a path that leads out of it, nor by a link. */
function pathOf(model: Model, tensor: TensorProto, location: string): string {
  if (model.folder === undefined) {
    throw new RxgradError('unsupportedModel', {
      model: model.name,
      problem: `The values of initializer "${tensor.name}" are external data, in a file beside the model`,
      advice: 'Load the model by its path, save it as one file, or name the initializers to train through trainable',
    });
  }
  const steps = location.split(/[\\/]/);
  if (
    location === '' ||
    isAbsolute(location) ||
    /^[A-Za-z]:/.test(location) ||
    steps[0] === '' ||
    steps.includes('..') ||
    location.includes('\0')
  ) {
    throw wrong(model, tensor, `the file ${JSON.stringify(location)}, which is not one in the model's folder`);
  }
  let file: string;
  try {
    file = realpathSync(resolve(model.folder, location));
    const within = relative(realpathSync(model.folder), file);
    if (within === '..' || within.startsWith(`..${sep}`) || isAbsolute(within)) {
      throw wrong(model, tensor, `the file "${location}", a link out of the model's folder`);
    }
    // Reading a pipe or a device might never end.
    if (!statSync(file).isFile()) throw wrong(model, tensor, `"${location}", which is no plain file`);
  } catch (cause) {
    if (cause instanceof RxgradError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw wrong(model, tensor, `the file "${location}", which ${code === 'ENOENT' ? 'is not there' : `gave ${code}`}`, cause);
  }
  return file;
}

/** A whole number; NaN where it is none. */
function wholeOf(text: string): number {
  const value = Number(text);
  return /^\d+$/.test(text) && Number.isSafeInteger(value) ? value : Number.NaN;
}

function wrong(model: Model, tensor: TensorProto, got: string, cause?: unknown): RxgradError {
  const options = cause === undefined ? undefined : { cause };
  return new RxgradError(
    'invalidModel',
    { model: model.name, got: `external data of initializer "${tensor.name}" in ${got}` },
    options,
  );
}
