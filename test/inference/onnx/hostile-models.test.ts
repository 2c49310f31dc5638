import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { HotSwapSession, isRxgradError } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { dataTypes } from '../../../src/inference/onnx/data-types.ts';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { attribute, buildModel, floats, graph, node, tensor, value } from './build-model.ts';
import { example } from './example-models.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const refusals = ['RXGRAD_INVALID_MODEL', 'RXGRAD_UNSUPPORTED_MODEL', 'RXGRAD_OUT_OF_MEMORY', 'RXGRAD_WEIGHTS_NOT_FINITE'];
const quiet = { session: { logSeverityLevel: 4 } } as const;

/** Loads what may be no model: whether it could be; anything but a refusal is a failure. */
async function loads(bytes: Uint8Array): Promise<boolean> {
  try {
    const session = await HotSwapSession.load(bytes, undefined, quiet);
    await session.dispose();
    return true;
  } catch (error) {
    if (!isRxgradError(error)) throw error;
    expect(refusals).toContain(error.code);
    expect(error.message.length).toBeLessThan(2000);
    return false;
  }
}

const mlp = readFileSync(example('mlp').path);

describe('a model file', () => {
  it('that is cut off, at whatever length, is refused', async () => {
    for (let length = 0; length < mlp.length; length++) expect(await loads(mlp.subarray(0, length)), `${length}`).toBe(false);
  });

  it.each(['mlp', 'transformer', 'ctr'] as const)('%s with some bits turned is refused, or loads', async (name) => {
    const whole = readFileSync(example(name).path);
    const turned = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(7)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(turned, async (bits) => {
        const bytes = Uint8Array.from(whole);
        for (const [at, bit] of bits) bytes[at]! ^= 1 << bit;
        await loads(bytes);
      }),
      { numRuns: 200 },
    );
  });

  it('that onnxruntime would end the process over is refused: a Split of fewer outputs than it has, or more', async () => {
    for (const said of [1, 2, 4]) {
      const split = node('Split', ['h'], ['a', 'b', 'c'], [attribute('num_outputs', said)]);
      const weights = tensor({ name: 'w', dataType: 1, dims: [6n, 6n], rawData: new Uint8Array(144) });
      const outputs = ['a', 'b', 'c'].map((name) => value(name, ['n', 2]));
      const bytes = buildModel({
        node: [node('MatMul', ['x', 'w'], ['h']), split],
        initializer: [weights],
        input: [value('x', ['n', 6])],
        output: outputs,
      });
      await expect(HotSwapSession.load(bytes)).rejects.toThrow(`a Split of ${said} outputs that has 3`);
    }
  });

  it('of random bytes is refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        expect(await loads(bytes)).toBe(false);
      }),
      { numRuns: 400 },
    );
  });

  it('of messages that are put together at random is refused, or loads', async () => {
    const { message } = fc.letrec<{ message: Uint8Array }>((tie) => ({
      message: fc
        .array(
          fc.tuple(
            fc.constantFrom(1, 2, 5, 6, 7, 8, 11, 12, 13, 15, 20),
            fc.oneof({ depthSize: 'small' }, fc.uint8Array({ maxLength: 12 }), fc.nat(30), tie('message')),
          ),
          { maxLength: 6 },
        )
        .map((fields) => {
          const writer = new BinaryWriter();
          for (const [number, contents] of fields) {
            if (typeof contents === 'number') writer.tag(number, 0).uint32(contents);
            else writer.tag(number, 2).bytes(contents);
          }
          return writer.finish();
        }),
    }));
    await fc.assert(
      fc.asyncProperty(message, async (bytes) => {
        await loads(bytes);
      }),
      { numRuns: 500 },
    );
  });

  it('is refused again and again without that memory grows', async () => {
    const attempt = async (times: number) => {
      for (let i = 0; i < times; i++) await loads(mlp.subarray(0, 600 + (i % 400)));
      collectGarbage();
      return process.memoryUsage().rss / 2 ** 20;
    };
    const before = await attempt(500);
    expect((await attempt(2000)) - before, 'MiB').toBeLessThan(24);
  });
});

describe('few bytes that would become much', () => {
  const field = (number: number, contents: Uint8Array) => new BinaryWriter().tag(number, 2).bytes(contents).finish();
  const around = (contents: Uint8Array) => Buffer.concat([field(7, contents), field(8, new Uint8Array())]);
  const copies = (count: number, ...bytes: number[]) => Buffer.alloc(count * bytes.length, Buffer.from(bytes));
  const refused = (reason: string) =>
    expect.objectContaining({ code: 'RXGRAD_INVALID_MODEL', message: expect.stringContaining(reason) });

  it.each([
    ['nodes', copies(3_000_000, 0x0a, 0)],
    ['inputs of a node', field(1, copies(14_000_000, 0x0a, 0))],
    ['numbers of a tensor', field(5, field(7, copies(34_000_000, 1)))],
    ['fields that no schema knows', copies(14_000_000, 0xf8, 1, 0)],
  ])('%s are refused before they are parsed', (_, contents) => {
    const before = process.memoryUsage().heapUsed;
    expect(() => readModel(around(contents))).toThrow(refused('bytes of nodes and fields once it is parsed'));
    expect((process.memoryUsage().heapUsed - before) / 2 ** 20, 'MiB').toBeLessThan(200);
  });

  it.each([33, 40, 2000])('%i graphs in one another are refused', (depth) => {
    let bytes: Uint8Array<ArrayBuffer> = new Uint8Array();
    for (let i = 0; i < depth; i++) for (const number of [6, 5, 1]) bytes = field(number, bytes);
    expect(() => readModel(around(bytes))).toThrow(refused('nested more than 100 deep'));
  });

  it('ten graphs in one another are no such thing', async () => {
    const input = [value('c', [], dataTypes.bool), value('x', [1])];
    let inner = node('Add', ['x', 'w'], ['y0']);
    for (let i = 1; i <= 10; i++) {
      const branch = (suffix: string) =>
        graph({
          node: [{ ...inner }, node('Identity', [`y${i - 1}`], [`r${i}${suffix}`])],
          output: [value(`r${i}${suffix}`)],
        });
      const otherwise = graph({ node: [node('Neg', ['x'], [`n${i}`])], output: [value(`n${i}`)] });
      inner = node('If', ['c'], [`y${i}`], [attribute('then_branch', branch('t')), attribute('else_branch', otherwise)]);
    }
    const bytes = buildModel({ input, output: [value('y10')], node: [inner], initializer: [floats('w', [1], [1])] });
    expect(await loads(bytes)).toBe(true);
  });

  it('a field of another type than the schema has is refused', () => {
    const bytes = Buffer.concat([new BinaryWriter().tag(7, 0).uint32(5).finish(), mlp]);
    expect(() => readModel(bytes)).toThrow(refused('graph of ModelProto in wire type 0'));
  });
});

describe('declarations that cannot be', () => {
  const io = { input: [value('x', [2])], output: [value('y', [2])], node: [node('Add', ['x', 'w'], ['y'])] };
  const weight = floats('w', [2], [1, 2]);

  it.each<[string, Uint8Array]>([
    ['immense dims', buildModel({ ...io, initializer: [{ ...weight, dims: [1n << 62n, 4n] }] })],
    ['dims of more values than there are', buildModel({ ...io, initializer: [{ ...weight, dims: [1n << 40n] }] })],
    ['negative dims', buildModel({ ...io, initializer: [{ ...weight, dims: [-2n] }] })],
    ['two negative dims', buildModel({ ...io, initializer: [{ ...weight, dims: [-2n, -1n] }] })],
    ['two initializers of a name', buildModel({ ...io, initializer: [weight, weight] })],
    [
      'a sparse one of the same name',
      buildModel({ ...io, initializer: [weight], sparseInitializer: [{ values: weight, dims: [2n] }] }),
    ],
    ['two inputs of a name', buildModel({ ...io, input: [...io.input, ...io.input], initializer: [weight] })],
    [
      'an output of a node by the name of a weight',
      buildModel({ ...io, node: [node('Add', ['x', 'x'], ['w']), ...io.node], initializer: [weight] }),
    ],
    ['a type that no tensor has', buildModel({ ...io, initializer: [{ ...weight, dataType: 99 }] })],
    ['external data in a model of bytes', buildModel({ ...io, initializer: [{ ...weight, dataLocation: 1 }] })],
  ])('%s', async (_, bytes) => {
    expect(await loads(bytes)).toBe(false);
  });

  it('but an initializer may be listed as an input, of whatever shape that has', async () => {
    expect(await loads(buildModel({ ...io, input: [...io.input, value('w', [7, 7])], initializer: [weight] }))).toBe(true);
  });
});
