import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { toBinary } from '@bufbuild/protobuf';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { Tensor } from 'onnxruntime-node';
import { describe, expect, it, type TestContext } from 'vitest';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { NodeProtoSchema } from '../../../src/inference/onnx/onnx_pb.ts';
import { attribute, buildModel, external, floats, graph, integers, node, otherFloats, tensor, value } from './build-model.ts';
import { expectSwappedAsRebuilt } from './swapped-and-rebuilt.ts';

const float32 = (dims: number[], ...data: number[]) => new Tensor('float32', Float32Array.from(data), dims);
const x = float32([1, 2], 10, 20);
/** Of what onnxruntime adds up in another order where a factor is a constant. */
const close = { tolerance: 1e-6 };
const matrix = floats('w', [2, 2], [1, 2, -3, 0.5]);
const io = { input: [value('x', [1, 2])], output: [value('y')] };
const castTo = (from: string, to: string, type: keyof typeof dataTypes) =>
  node('Cast', [from], [to], [attribute('to', dataTypes[type])]);

describe('weights', () => {
  it('that several nodes share', async (t) => {
    const nodes = [node('MatMul', ['x', 'w'], ['a']), node('MatMul', ['a', 'w'], ['b']), node('Add', ['b', 'w'], ['y'])];
    await expectSwappedAsRebuilt(t, buildModel({ ...io, node: nodes, initializer: [matrix] }), { x }, close);
  });

  it('behind Transpose and Identity', async (t) => {
    const nodes = [
      node('Transpose', ['w'], ['t'], [attribute('perm', [1, 0])]),
      node('Identity', ['t'], ['i']),
      node('MatMul', ['x', 'i'], ['y']),
    ];
    await expectSwappedAsRebuilt(t, buildModel({ ...io, node: nodes, initializer: [matrix] }), { x }, close);
  });

  it('that the graph returns', async (t) => {
    const nodes = [node('MatMul', ['x', 'w'], ['y'])];
    const output = [value('y'), value('w', [2, 2])];
    await expectSwappedAsRebuilt(t, buildModel({ ...io, output, node: nodes, initializer: [matrix] }), { x }, close);
  });

  it('that are scalars, empty, or called in other letters', async (t) => {
    const initializer = [floats('вес/重み', [2], [1, 2]), floats('s', [], [2]), floats('none', [0, 2], [])];
    const nodes = [
      node('Add', ['x', 'вес/重み'], ['a']),
      node('Mul', ['a', 's'], ['b']),
      node('Concat', ['b', 'none'], ['y'], [attribute('axis', 0)]),
    ];
    const trainable = initializer.map(({ name }) => name);
    const session = await expectSwappedAsRebuilt(t, buildModel({ ...io, node: nodes, initializer }), { x }, { trainable });
    expect(session.params.names).toEqual(trainable);
  });

  it('of a model that lists them as inputs, as those before IR version 4 do', async (t) => {
    const input = [value('h', [2], dataTypes.float16), ...io.input, value('w', [2, 2])];
    const initializer = [matrix, otherFloats('h', 'float16', [2], [0x3c00, 0x4000])];
    const nodes = [node('MatMul', ['x', 'w'], ['a']), castTo('h', 'f', 'float32'), node('Add', ['a', 'f'], ['y'])];
    const bytes = buildModel({ ...io, input, node: nodes, initializer }, { irVersion: 3, opset: 8 });
    const session = await expectSwappedAsRebuilt(t, bytes, { x }, close);
    expect(session.inputs.map(({ name }) => name)).toEqual(['x']);
  });
});

describe('other floating-point types', () => {
  const ones = { float16: 0x3c00, bfloat16: 0x3f80 };

  it.for(['float16', 'bfloat16'] as const)('%s is cast where it is read, at any depth', async (type, t) => {
    const initializer = [otherFloats('h', type, [2], [ones[type], ones[type] + 77]), floats('b', [2], [1, 2])];
    const branch = (op: string, name: string) =>
      graph({ node: [castTo('h', `${name}f`, 'float32'), node(op, ['x', `${name}f`], [name])], output: [value(name)] });
    const nodes = [
      castTo('h', 'f', 'float32'),
      node('If', ['c'], ['i'], [attribute('then_branch', branch('Add', 'r')), attribute('else_branch', branch('Mul', 's'))]),
      node('Sum', ['i', 'f', 'b'], ['y']),
    ];
    // A name that the surgery would choose.
    nodes.unshift(node('Identity', ['x'], [`h_as_${type}`]));
    const input = [value('c', [], dataTypes.bool), ...io.input];
    const valueInfo = [value('h', [2], dataTypes[type])];
    const bytes = buildModel({ ...io, input, node: nodes, initializer, valueInfo });
    for (const c of [true, false]) await expectSwappedAsRebuilt(t, bytes, { x, c: new Tensor('bool', [c], []) });
  });

  it('float16 is computed with as before', async (t) => {
    const initializer = [otherFloats('h', 'float16', [2, 2], [0x3c01, 0x4100, 0xb800, 0x2e66])];
    const nodes = [castTo('x', 'hx', 'float16'), node('MatMul', ['hx', 'h'], ['hy']), castTo('hy', 'y', 'float32')];
    await expectSwappedAsRebuilt(t, buildModel({ ...io, node: nodes, initializer }), { x });
  });

  it('float64 too, rounded to float32', async (t) => {
    const initializer = [otherFloats('d', 'float64', [2], [0.1, -0.3])];
    const nodes = [castTo('x', 'dx', 'float64'), node('Mul', ['dx', 'd'], ['dy']), castTo('dy', 'y', 'float32')];
    await expectSwappedAsRebuilt(t, buildModel({ ...io, node: nodes, initializer }), { x }, close);
  });
});

describe('control flow that reads outer weights', () => {
  const scalar = (name: string, type: number) => value(name, [], type);
  const limit = tensor({ name: 'n', dataType: dataTypes.int64, int64Data: [3n] });
  const go = tensor({ name: 'go', dataType: dataTypes.bool, int32Data: [1] });

  it('in a loop, within a branch within it', async (t) => {
    const then = graph({ node: [node('Add', ['state', 'w'], ['r'])], output: [value('r')] });
    const otherwise = graph({ node: [node('Sub', ['state', 'v'], ['s'])], output: [value('s')] });
    const body = graph({
      input: [scalar('i', dataTypes.int64), scalar('going', dataTypes.bool), value('state', [1, 2])],
      node: [
        node('Identity', ['going'], ['still']),
        node('Less', ['i', 'two'], ['early']),
        node('If', ['early'], ['next'], [attribute('then_branch', then), attribute('else_branch', otherwise)]),
      ],
      initializer: [tensor({ name: 'two', dataType: dataTypes.int64, int64Data: [2n] })],
      output: [scalar('still', dataTypes.bool), value('next', [1, 2])],
    });
    const initializer = [limit, go, floats('w', [2], [1, 2]), otherFloats('h', 'float16', [2], [0x3c00, 0x4000])];
    const nodes = [castTo('h', 'v', 'float32'), node('Loop', ['n', 'go', 'x'], ['y'], [attribute('body', body)])];
    const session = await expectSwappedAsRebuilt(t, buildModel({ ...io, node: nodes, initializer }), { x });
    expect(session.params.names).toEqual(['w', 'h']);
  });

  it('in a scan', async (t) => {
    const body = graph({
      input: [value('sum', [2]), value('row', [2])],
      node: [node('Add', ['sum', 'row'], ['a']), node('Mul', ['a', 'w'], ['b']), node('Identity', ['b'], ['out'])],
      output: [value('b', [2]), value('out', [2])],
    });
    const initializer = [floats('w', [2], [0.5, 2]), floats('start', [2], [1, 1])];
    const scan = node('Scan', ['start', 'x'], ['last', 'y'], [attribute('num_scan_inputs', 1), attribute('body', body)]);
    const input = [value('x', [3, 2])];
    const output = [value('last'), value('y')];
    await expectSwappedAsRebuilt(t, buildModel({ input, output, node: [scan], initializer }), {
      x: float32([3, 2], 1, 2, 3, 4, 5, 6),
    });
  });

  it('while weights of its own stay as they are', async (t) => {
    const branch = (name: string) =>
      graph({
        node: [node('Mul', ['x', 'own'], [`${name}m`]), node('Add', [`${name}m`, 'w'], [name])],
        initializer: [floats('own', [2], [3, 4])],
        output: [value(name)],
      });
    const choice = node('If', ['c'], ['y'], [attribute('then_branch', branch('r')), attribute('else_branch', branch('s'))]);
    const input = [value('c', [], dataTypes.bool), ...io.input];
    const bytes = buildModel({ ...io, input, node: [choice], initializer: [floats('w', [2], [1, 2])] });
    const session = await expectSwappedAsRebuilt(t, bytes, { x, c: new Tensor('bool', [true], []) });
    expect(session.params.names).toEqual(['w']);
  });
});

it('functions of a model find weights as their arguments', async (t) => {
  const text = (writer: BinaryWriter, field: number, value: string) => writer.tag(field, 2).string(value);
  const writer = new BinaryWriter();
  text(writer, 1, 'Twice');
  text(writer, 4, 'a');
  text(writer, 4, 'w');
  text(writer, 5, 'z');
  for (const inner of [node('MatMul', ['a', 'w'], ['m']), node('MatMul', ['m', 'w'], ['z'])]) {
    writer.tag(7, 2).bytes(toBinary(NodeProtoSchema, inner));
  }
  writer.tag(9, 2).bytes(new BinaryWriter().tag(2, 0).int64(18).finish());
  text(writer, 10, 'own');
  const twice = node('Twice', ['x', 'w'], ['y'], [], 'own');
  const bytes = buildModel({ ...io, node: [twice], initializer: [matrix] }, { domains: ['own'] });
  await expectSwappedAsRebuilt(
    t,
    Buffer.concat([bytes, new BinaryWriter().tag(25, 2).bytes(writer.finish()).finish()]),
    { x },
    { tolerance: 1e-6 },
  );
});

describe('operators whose weights onnxruntime would pack', () => {
  const wave = (name: string, ...dims: number[]) =>
    floats(
      name,
      dims,
      Array.from({ length: dims.reduce((size, dim) => size * dim, 1) }, (_, i) => 0.4 + 0.3 * Math.sin(i + name.length)),
    );
  const hidden = [attribute('hidden_size', 4)];
  const filter = wave('w', 4, 3, 3, 3);

  it.for<[string, number[], ReturnType<typeof wave>[], ReturnType<typeof attribute>[], string?]>([
    ['Conv', [1, 3, 8, 8], [filter, wave('b', 4)], []],
    ['ConvTranspose', [1, 3, 8, 8], [wave('w', 3, 4, 3, 3), wave('b', 4)], []],
    ['Gemm', [2, 3], [wave('w', 3, 4), wave('b', 4)], []],
    ['LSTM', [5, 1, 3], [wave('w', 1, 16, 3), wave('r', 1, 16, 4), wave('b', 1, 32)], hidden],
    ['GRU', [5, 1, 3], [wave('w', 1, 12, 3), wave('r', 1, 12, 4), wave('b', 1, 24)], hidden],
    ['RNN', [5, 1, 3], [wave('w', 1, 4, 3), wave('r', 1, 4, 4), wave('b', 1, 8)], hidden],
    ['LayerNormalization', [2, 4], [wave('w', 4), wave('b', 4)], []],
    ['InstanceNormalization', [1, 4, 3], [wave('w', 4), wave('b', 4)], []],
    ['Einsum', [2, 3], [wave('w', 3, 4)], [attribute('equation', 'ij,jk->ik')]],
    ['Attention', [1, 4, 8], [wave('w', 8, 24), wave('b', 24)], [attribute('num_heads', 2)], 'com.microsoft'],
    ['FusedConv', [1, 3, 8, 8], [filter, wave('b', 4)], [attribute('activation', 'Relu')], 'com.microsoft'],
    ['FusedMatMul', [2, 3], [wave('w', 3, 4)], [], 'com.microsoft'],
  ])('%s', async ([op, dims, initializer, attributes, domain], t) => {
    const names = initializer.map(({ name }) => name);
    const nodes = [node(op, ['x', ...names], ['y'], attributes, domain)];
    const bytes = buildModel(
      { input: [value('x', dims)], output: [value('y')], node: nodes, initializer },
      { domains: ['com.microsoft'] },
    );
    const feed = float32(dims, ...Array.from({ length: dims.reduce((size, dim) => size * dim, 1) }, (_, i) => Math.cos(i)));
    const session = await expectSwappedAsRebuilt(t, bytes, { x: feed }, { tolerance: 2e-6 });
    expect(session.params.names).toEqual(names);
  });
});

describe('external data', () => {
  function folder(t: TestContext): string {
    const path = mkdtempSync(`${tmpdir()}/rxgrad-модель-`);
    t.onTestFinished(() => rmSync(path, { recursive: true }));
    return path;
  }

  it('is read from the places that the model names, and what is not trained stays there', async (t) => {
    const path = folder(t);
    mkdirSync(`${path}/веса`);
    const h = otherFloats('h', 'float16', [2], [0x3c00, 0x4000]);
    const i = tensor({ ...integers('i', [0]), int64Data: [], rawData: new Uint8Array(8) });
    const k = floats('k', [], [7]);
    writeFileSync(`${path}/веса/w.bin`, Buffer.concat([Buffer.alloc(64, 1), matrix.rawData, h.rawData]));
    writeFileSync(`${path}/rest.bin`, Buffer.concat([i.rawData, k.rawData]));
    const initializer = [
      external(matrix, { location: 'веса/w.bin', offset: 64, length: 16, checksum: 'not looked at' }),
      external(h, { location: 'веса/w.bin', offset: 80 }),
      external(i, { location: 'rest.bin', length: 8 }),
      external(k, { location: './rest.bin', offset: 8 }),
    ];
    const nodes = [
      node('MatMul', ['x', 'w'], ['a']),
      castTo('h', 'f', 'float32'),
      node('Sum', ['a', 'f', 'k'], ['b']),
      node('Gather', ['b', 'i'], ['y']),
    ];
    writeFileSync(`${path}/m.onnx`, buildModel({ ...io, node: nodes, initializer }));
    const session = await expectSwappedAsRebuilt(t, `${path}/m.onnx`, { x }, close);
    expect(session.params.names).toEqual(['w', 'h']);
  });
});
