import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { HotSwapSession } from 'rxgrad';
import { describe, expect, it, type TestContext } from 'vitest';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { withInitializers } from '../../../src/inference/onnx/with-initializers.ts';
import { attribute, buildModel, external, floats, graph, node, otherFloats, tensor, value } from './build-model.ts';

const io = { input: [value('c', [], dataTypes.bool), value('x', [2])], output: [value('y', [2])] };
const unsupported = (message: string | RegExp) =>
  expect.objectContaining({ code: 'RXGRAD_UNSUPPORTED_MODEL', message: expect.stringMatching(message) });
const invalid = (message: string | RegExp) =>
  expect.objectContaining({ code: 'RXGRAD_INVALID_MODEL', message: expect.stringMatching(message) });

/** A model that adds an outer weight in two branches, the first of which has initializers of its own. */
function branching(own: ReturnType<typeof floats>[], nodes = [node('Add', ['x', 'w'], ['r'])]): Uint8Array {
  const then = graph({ node: nodes, initializer: own, output: [value(nodes.at(-1)!.output[0]!)] });
  const otherwise = graph({ node: [node('Sub', ['x', 'w'], ['s'])], output: [value('s')] });
  const choice = node('If', ['c'], ['y'], [attribute('then_branch', then), attribute('else_branch', otherwise)]);
  return buildModel({ ...io, node: [{ ...choice, name: 'choice' }], initializer: [floats('w', [2], [1, 2])] });
}

describe('by name, and with what to do', () => {
  it.each<[string, Uint8Array, string[] | undefined, RegExp]>([
    [
      'a weight that belongs to a graph of control flow',
      branching([floats('own', [2], [3, 4])], [node('Add', ['x', 'own'], ['r'])]),
      ['own'],
      /"own" belongs to a graph inside If "choice", .*Export it as a dense initializer of the outer graph/,
    ],
    [
      'one that is declared again there',
      branching([floats('w', [2], [3, 4])]),
      undefined,
      /"w" is declared again inside If "choice". Rename one of the two/,
    ],
    [
      'one whose name a node there makes',
      branching([], [node('Neg', ['x'], ['w']), node('Add', ['x', 'w'], ['r'])]),
      undefined,
      /"w" is declared again/,
    ],
    [
      'the output of a Constant node',
      buildModel({
        ...io,
        node: [
          node('Constant', [], ['k'], [{ name: 'value', t: floats('', [2], [1, 2]), type: 4 }]),
          node('Add', ['x', 'k'], ['y']),
        ],
      }),
      ['k'],
      /"k" is the output of a Constant node/,
    ],
    [
      'one that is quantised',
      buildModel({
        ...io,
        node: [node('DequantizeLinear', ['q', 's'], ['d']), node('Add', ['x', 'd'], ['y'])],
        initializer: [
          tensor({ name: 'q', dataType: dataTypes.uint8, dims: [2n], rawData: new Uint8Array(2) }),
          floats('s', [], [0.5]),
        ],
      }),
      ['q'],
      /"q" is uint8, .*quantised have to be trained before/,
    ],
    [
      'a half that the graph returns',
      buildModel({
        input: [value('x', [2], dataTypes.float16)],
        output: [value('y', [2], dataTypes.float16), value('h', [2], dataTypes.float16)],
        node: [node('Add', ['x', 'h'], ['y'])],
        initializer: [otherFloats('h', 'float16', [2], [0, 0])],
      }),
      undefined,
      /"h" is float16, and an output of the graph.*Identity/,
    ],
    [
      'a half in a model that is too old for a Cast',
      buildModel(
        { ...io, node: [node('Add', ['x', 'h'], ['y'])], initializer: [otherFloats('h', 'float16', [2], [0, 0])] },
        { opset: 5 },
      ),
      undefined,
      /"h" is float16, which takes a Cast of operator set 6, and the model is of 5/,
    ],
    [
      'a bfloat16 likewise',
      buildModel(
        { ...io, node: [node('Add', ['x', 'h'], ['y'])], initializer: [otherFloats('h', 'bfloat16', [2], [0, 0])] },
        { opset: 12 },
      ),
      undefined,
      /"h" is bfloat16, which takes a Cast of operator set 13/,
    ],
  ])('%s', async (_, bytes, trainable, message) => {
    await expect(HotSwapSession.load(bytes, undefined, trainable ? { trainable } : {})).rejects.toEqual(unsupported(message));
  });
});

describe('scales that onnxruntime multiplies with only where they are constant', () => {
  const attributes = [attribute('K', 32), attribute('N', 2), attribute('bits', 4), attribute('block_size', 32)];
  const packed = tensor({ name: 'q', dataType: dataTypes.uint8, dims: [2n, 1n, 16n], rawData: new Uint8Array(32).fill(55) });
  const initializer = [packed, floats('s', [2], [1, 2]), floats('b', [2], [3, 4])];
  const multiply = (scales: string) => node('MatMulNBits', ['x', 'q', scales, '', '', 'b'], ['y'], attributes, 'com.microsoft');
  const model = (nodes: ReturnType<typeof node>[]) =>
    buildModel({ input: [value('x', [1, 32])], output: [value('y')], node: nodes, initializer }, { domains: ['com.microsoft'] });

  it('stay constant', async (t) => {
    const session = await HotSwapSession.load(model([multiply('s')]));
    t.onTestFinished(() => session.dispose());
    expect(session.params.names).toEqual(['b']);
  });

  it.each([
    ['named', model([multiply('s')])],
    ['named, behind an Identity', model([node('Identity', ['s'], ['i']), multiply('i')])],
  ])('are refused where they are %s', async (_, bytes) => {
    const message = /"s" is read by MatMulNBits, .* only where it is a constant.*strategy: 'rebuild'/;
    await expect(HotSwapSession.load(bytes, undefined, { trainable: ['s'] })).rejects.toEqual(unsupported(message));
  });
});

describe('external data', () => {
  const weight = floats('w', [2], [1, 2]);

  function attempt(t: TestContext, entries: Record<string, string | number>, of = weight): () => unknown {
    const folder = mkdtempSync(`${tmpdir()}/rxgrad-`);
    t.onTestFinished(() => rmSync(folder, { recursive: true }));
    mkdirSync(`${folder}/models/inner`, { recursive: true });
    writeFileSync(`${folder}/outside.bin`, new Uint8Array(8));
    writeFileSync(`${folder}/models/w.bin`, new Uint8Array(8));
    symlinkSync(`${folder}/outside.bin`, `${folder}/models/link.bin`);
    symlinkSync(folder, `${folder}/models/up`);
    writeFileSync(`${folder}/models/immense.bin`, '');
    truncateSync(`${folder}/models/immense.bin`, 2 ** 33);
    const nodes = [node('Add', ['x', 'w'], ['y'])];
    const path = `${folder}/models/m.onnx`;
    writeFileSync(path, buildModel({ ...io, node: nodes, initializer: [external(of, entries)] }));
    return () => trainableInitializers(readModel(path));
  }

  it.for<[Record<string, string | number>, RegExp]>([
    [{}, /the file "", which is not one in the model's folder/],
    [{ location: '/etc/hostname' }, /"w" in the file "\/etc\/hostname", which is not one in/],
    [{ location: '../outside.bin' }, /"..\/outside.bin", which is not one in/],
    [{ location: 'inner/../../outside.bin' }, /which is not one in/],
    [{ location: 'inner\\..\\..\\outside.bin' }, /which is not one in/],
    [{ location: 'C:\\weights.bin' }, /which is not one in/],
    [{ location: 'w.bin\0' }, /which is not one in/],
    [{ location: 'link.bin' }, /"link.bin", a link out of the model's folder/],
    [{ location: 'up/outside.bin' }, /a link out of the model's folder/],
    [{ location: 'none.bin' }, /"none.bin", which is not there/],
    [{ location: 'inner' }, /"inner", which is no plain file/],
    [{ location: 'w.bin', offset: 4 }, /offset 4, length 8 of the file "w.bin", which has 8 bytes/],
    [{ location: 'w.bin', offset: '-4' }, /offset -4/],
    [{ location: 'w.bin', offset: '1e1' }, /offset 1e1/],
    [{ location: 'w.bin', offset: '99999999999999999999' }, /offset 99999999999999999999/],
    [{ location: 'w.bin', length: 4 }, /4 bytes, where its dims take 8/],
    [{ location: 'w.bin', length: '' }, /length {2}of the file/],
    [{ location: 'immense.bin', length: 2 ** 33 }, /8589934592 bytes, where its dims take 8/],
  ])('at %j is refused', ([entries, message], t) => {
    expect(attempt(t, entries)).toThrow(invalid(message));
  });

  it.for(['../outside.bin', 'link.bin', 'none.bin'])(
    'at %s is refused by onnxruntime where it is not trained',
    async (location, t) => {
      const folder = mkdtempSync(`${tmpdir()}/rxgrad-`);
      t.onTestFinished(() => rmSync(folder, { recursive: true }));
      mkdirSync(`${folder}/models`);
      writeFileSync(`${folder}/outside.bin`, new Uint8Array(8));
      symlinkSync(`${folder}/outside.bin`, `${folder}/models/link.bin`);
      const nodes = [node('Sum', ['x', 'w', 'k'], ['y'])];
      const initializer = [weight, external(floats('k', [2], []), { location })];
      writeFileSync(`${folder}/models/m.onnx`, buildModel({ ...io, node: nodes, initializer }));
      const options = { trainable: ['w'], session: { logSeverityLevel: 4 } } as const;
      await expect(HotSwapSession.load(`${folder}/models/m.onnx`, undefined, options)).rejects.toEqual(
        invalid('onnxruntime refuses'),
      );
    },
  );

  it('beyond what memory can hold is refused before it is read', (t) => {
    const of = { ...weight, dims: [2n ** 31n] };
    expect(attempt(t, { location: 'immense.bin' }, of)).toThrow(expect.objectContaining({ code: 'RXGRAD_OUT_OF_MEMORY' }));
  });

  it('beyond what a model file can hold is not put into one', (t) => {
    const folder = mkdtempSync(`${tmpdir()}/rxgrad-`);
    t.onTestFinished(() => rmSync(folder, { recursive: true }));
    writeFileSync(`${folder}/immense.bin`, '');
    truncateSync(`${folder}/immense.bin`, 2 ** 31);
    const path = `${folder}/m.onnx`;
    const initializer = [external({ ...weight, dims: [2n ** 29n] }, { location: 'immense.bin' })];
    writeFileSync(path, buildModel({ ...io, node: [node('Add', ['x', 'w'], ['y'])], initializer }));
    expect(() => withInitializers(readModel(path), {}, { alone: true })).toThrow(unsupported(/would make 2147483\d+ bytes/));
  });
});
