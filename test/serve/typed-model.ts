import { create, toBinary } from '@bufbuild/protobuf';
import { dataTypes } from '../../src/inference/onnx/data-types.ts';
import { ModelProtoSchema } from '../../src/inference/onnx/onnx_pb.ts';

type OnnxType = keyof typeof dataTypes;

const dim = (size: number | string) =>
  typeof size === 'number'
    ? { value: { case: 'dimValue' as const, value: BigInt(size) } }
    : { value: { case: 'dimParam' as const, value: size } };

const tensor = (name: string, type: OnnxType, dims: readonly (number | string)[]) => ({
  name,
  type: {
    value: { case: 'tensorType' as const, value: { elemType: dataTypes[type], shape: { dim: dims.map(dim) } } },
  },
});

/**
 * A model that hands `value`, of any type and two sizes, on as `same`, and multiplies `x` [n, 2] by the trainable `w` [2, 1]
 * (2 and 3) into `y`.
 */
export function typedModel(type: OnnxType): Uint8Array {
  const w = { name: 'w', dataType: dataTypes.float32, dims: [2n, 1n], floatData: [2, 3] };
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [{ domain: '', version: 17n }],
      graph: {
        name: 'typed',
        initializer: [w],
        node: [
          { opType: 'Identity', input: ['value'], output: ['same'] },
          { opType: 'MatMul', input: ['x', 'w'], output: ['y'] },
        ],
        input: [tensor('value', type, ['rows', 'columns']), tensor('x', 'float32', ['n', 2])],
        output: [tensor('same', type, ['rows', 'columns']), tensor('y', 'float32', ['n', 1])],
      },
    }),
  );
}
