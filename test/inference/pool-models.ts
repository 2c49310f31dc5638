import { Tensor } from 'onnxruntime-node';
import { gradientBatch, HotSwapSession, type HotSwapSessionOptions, hotSwap, optimizer, type Parameters } from 'rxgrad';
import { Subject } from 'rxjs';
import type { TestContext } from 'vitest';
import { dataTypes } from '../../src/inference/onnx/data-types.ts';
import { buildModel, floats, node, value } from './onnx/build-model.ts';

/** `y = x · scale + shift`, element by element: the same bits for any number of rows. */
export const rowWise = buildModel({
  node: [node('Mul', ['x', 'scale'], ['scaled']), node('Add', ['scaled', 'shift'], ['y'])],
  initializer: [floats('scale', [3], [2, -0.3, 0.7]), floats('shift', [3], [0.1, 0.2, 0.3])],
  input: [value('x', ['batch', 3])],
  output: [value('y', ['batch', 3])],
});

/** As {@link rowWise}, of inputs with another open dimension: `y = x + w`, and texts that pass through. */
export const openShapes = buildModel({
  node: [node('Add', ['x', 'w'], ['y']), node('Identity', ['text'], ['same'])],
  initializer: [floats('w', [1], [1])],
  input: [value('x', ['batch', 'length']), value('text', ['batch', 'words'], dataTypes.string)],
  output: [value('y', ['batch', 'length']), value('same', ['batch', 'words'], dataTypes.string)],
});

/** The place of a text in a table of one row: any other than 0 makes onnxruntime fail. */
export const lookUp = buildModel({
  node: [node('Gather', ['table', 'index'], ['y'])],
  initializer: [floats('table', [1, 2], [3, 4])],
  input: [value('index', ['batch'], dataTypes.int64)],
  output: [value('y', ['batch', 2])],
});

/** The sum over all rows: its first dimension looks as if it were a batch. */
export const mixing = buildModel({
  node: [node('CumSum', ['x', 'axis'], ['sums']), node('Add', ['sums', 'w'], ['y'])],
  initializer: [floats('w', [1], [0]), { ...floats('axis', [], [0]), dataType: dataTypes.int32, rawData: new Uint8Array(4) }],
  input: [value('x', ['time', 1])],
  output: [value('y', ['time', 1])],
});

/** `low` and `high` are the least and the greatest weight: the same, unless a prediction saw two versions. */
export function extremes(length: number): Uint8Array {
  return buildModel({
    node: [
      node('ReduceMin', ['w'], ['min']),
      node('ReduceMax', ['w'], ['max']),
      node('Add', ['x', 'min'], ['low']),
      node('Add', ['x', 'max'], ['high']),
    ],
    initializer: [floats('w', [length], new Array<number>(length).fill(0))],
    input: [value('x', ['batch', 1])],
    output: [value('low', ['batch', 1]), value('high', ['batch', 1])],
  });
}

export async function load(
  t: TestContext,
  onnx: string | Uint8Array,
  options: HotSwapSessionOptions = {},
): Promise<HotSwapSession> {
  const session = await HotSwapSession.load(onnx, undefined, options);
  t.onTestFinished(() => session.dispose());
  return session;
}

/** So many rows of three, or of another width. */
export function rows(count: number, first = 0, width = 3): { x: Tensor } {
  const data = Float32Array.from({ length: count * width }, (_, i) => Math.sin(first + i));
  return { x: new Tensor('float32', data, [count, width]) };
}

export function numbers(tensor: Tensor | undefined): number[] {
  return [...(tensor!.data as Float32Array)];
}

/** Adds 1 to all weights with every call, which makes a version, and shows it. */
export function stepper(session: HotSwapSession): () => void {
  const { params } = session;
  const batch = gradientBatch({
    gradients: Object.fromEntries([...params].map(({ name, length }) => [name, new Float32Array(length).fill(-1)])),
  });
  const events$ = new Subject<typeof batch>();
  events$.pipe(optimizer(params as Parameters, { type: 'SGD', lr: 1 }), hotSwap(session)).subscribe();
  return () => events$.next(batch);
}
