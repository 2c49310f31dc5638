import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { describe, expect, it, type TestContext } from 'vitest';
import { isRxgradError } from '../../../src/errors.ts';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { modelBytes, modelInputs, readModel } from '../../../src/inference/onnx/model.ts';
import { ModelProtoSchema } from '../../../src/inference/onnx/onnx_pb.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { withWeightsAsInputs } from '../../../src/inference/onnx/with-weights-as-inputs.ts';
import { buildModel, floats, graph, node, value } from './build-model.ts';
import { example, exampleNames } from './example-models.ts';

const invalid = (got: string) => expect.objectContaining({ code: 'RXGRAD_INVALID_MODEL', message: expect.stringContaining(got) });
const mlp = readFileSync(example('mlp').path);

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-`);
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

describe('a model that nothing changed', () => {
  it.each(exampleNames)('%s comes back byte for byte', (name) => {
    const { path } = example(name);
    expect(Buffer.compare(modelBytes(readModel(path).proto), readFileSync(path))).toBe(0);
  });

  it('keeps what the schema does not list', () => {
    const functions = new BinaryWriter()
      .tag(25, 2)
      .bytes(Uint8Array.of(10, 1, 102))
      .finish();
    const bytes = Buffer.concat([mlp, functions]);
    expect(Buffer.compare(modelBytes(readModel(bytes).proto), bytes)).toBe(0);
  });
});

describe('a model is refused', () => {
  it.each([
    ['no bytes', new Uint8Array(), 'no bytes'],
    ['text', Buffer.from('this is not a model, but a sentence about one'), 'something else, or cut off'],
    ['zeros', new Uint8Array(64), 'something else, or cut off'],
    ['a message of unknown fields', new BinaryWriter().tag(99, 2).bytes(new Uint8Array(9)).finish(), 'without a graph'],
    ['a graph without outputs', buildModel({ input: [value('x')] }), 'without outputs'],
    [
      'no operator set',
      toBinary(ModelProtoSchema, create(ModelProtoSchema, { graph: graph({ output: [value('y')] }) })),
      'operator set',
    ],
    ['a cut in the graph', mlp.subarray(0, 700), 'something else, or cut off'],
    ['a cut behind the graph', mlp.subarray(0, mlp.length - 6), 'without an operator set'],
    [
      'two initializers of one name',
      buildModel({ output: [value('y')], initializer: [floats('w', [1], [1]), floats('w', [1], [2])] }),
      'two initializers named "w"',
    ],
  ])('with %s', (_, bytes, got) => {
    expect(() => readModel(bytes)).toThrow(invalid(got));
    expect(() => readModel(bytes)).toThrow(`model of ${bytes.length} bytes: expected an ONNX model`);
  });

  it('at a path that leads to no file', (t) => {
    const folder = temporaryFolder(t);
    expect(() => readModel(`${folder}/none.onnx`)).toThrow(
      invalid(`${folder}/none.onnx: expected an ONNX model, got no such file`),
    );
    expect(() => readModel(folder)).toThrow(invalid('a folder'));
    expect(() => readModel('/dev/zero')).toThrow(invalid('no plain file'));
  });

  it('in a file that is cut off, by its path', (t) => {
    const path = `${temporaryFolder(t)}/cut.onnx`;
    writeFileSync(path, mlp.subarray(0, 500));
    expect(() => readModel(path)).toThrow(invalid(`${path}: expected an ONNX model, got 500 bytes`));
  });

  it('in a file beyond what protocol buffers can hold, without reading it', (t) => {
    const path = `${temporaryFolder(t)}/large.onnx`;
    writeFileSync(path, mlp);
    truncateSync(path, 2 ** 31);
    expect(() => readModel(path)).toThrow(invalid('2147483648 bytes, where a model file ends at 2147483647'));
  });

  it('as anything but a path or bytes', () => {
    expect(() => readModel(null as unknown as string)).toThrow(invalid('null as its path or bytes'));
  });

  it('or read, but never breaks anything, whatever its bytes', () => {
    const attempt = (bytes: Uint8Array) => {
      try {
        const model = readModel(bytes);
        modelInputs(model);
        const names = trainableInitializers(model).map(({ name }) => name);
        expect(withWeightsAsInputs(model, names).inputs).toEqual(names);
      } catch (error) {
        if (!isRxgradError(error)) throw error;
      }
    };
    const damage = fc.array(fc.tuple(fc.nat(mlp.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(damage, (changes) => {
        const bytes = Uint8Array.from(mlp);
        for (const [at, byte] of changes) bytes[at] = byte;
        attempt(bytes);
      }),
      { numRuns: 500 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), attempt), { numRuns: 500 });
  });

  it('when its graphs are nested without end', () => {
    let bytes: Uint8Array<ArrayBuffer> = new Uint8Array();
    for (let depth = 0; depth < 3000; depth++)
      for (const field of [6, 5, 1]) bytes = new BinaryWriter().tag(field, 2).bytes(bytes).finish();
    expect(() => readModel(new BinaryWriter().tag(7, 2).bytes(bytes).finish())).toThrow(invalid('something else, or cut off'));
  });
});

describe('modelInputs', () => {
  it('names type and dims, fixed and symbolic', () => {
    const input = [
      value('x', ['batch', 3, '']),
      value('ids', [], dataTypes.int64),
      value('any'),
      value('half', [1], dataTypes.float16),
    ];
    const model = readModel(buildModel({ input, output: [value('y')], node: [node('Identity', ['x'], ['y'])] }));
    expect(modelInputs(model)).toEqual([
      { name: 'x', type: 'float32', dims: ['batch', 3, '?'] },
      { name: 'ids', type: 'int64', dims: [] },
      { name: 'any', type: 'float32', dims: undefined },
      { name: 'half', type: 'float16', dims: [1] },
    ]);
  });

  it('leaves out inputs that are initializers', () => {
    const input = [value('w', [1]), value('x', [1])];
    const model = readModel(buildModel({ input, output: [value('x')], initializer: [floats('w', [1], [1])] }));
    expect(modelInputs(model).map(({ name }) => name)).toEqual(['x']);
  });

  it('reads those of an exported model', () => {
    expect(modelInputs(readModel(example('ctr').path))).toEqual([
      { name: 'user', type: 'int64', dims: [expect.any(String)] },
      { name: 'item', type: 'int64', dims: [expect.any(String)] },
      { name: 'dense', type: 'float32', dims: [expect.any(String), 3] },
    ]);
  });
});
