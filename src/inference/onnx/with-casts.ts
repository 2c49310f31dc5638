import { create } from '@bufbuild/protobuf';
import { RxgradError } from '../../errors.ts';
import { dataTypeName, dataTypes } from './data-types.ts';
import { allNames } from './inner-names.ts';
import { type Model, withFields } from './model.ts';
import {
  type GraphProto,
  type ModelProto,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from './onnx_pb.ts';

/** Since when Cast names its type by number, and since when it knows bfloat16. */
const CAST = 6;
const CAST_TO_BFLOAT16 = 13;

/**
 * Puts a Cast behind inputs that are float32 now, and has everything that read them, control flow included, read what it makes.
 * A Reshape to the same dims follows: onnxruntime leaves out a Cast to half that it casts back itself, for operators which it has
 * in float32 only, and would compute with other numbers than a model that holds halves.
 */
export function withCasts(model: Model, proto: ModelProto, tensors: readonly TensorProto[]): ModelProto {
  const graph = proto.graph!;
  assertCastable(model, tensors);
  const taken = allNames(model.graph);
  const fresh = (name: string): string => {
    while (taken.has(name)) name += '_';
    taken.add(name);
    return name;
  };
  const castNames = new Map(tensors.map(({ name, dataType }) => [name, fresh(`${name}_as_${dataTypeName(dataType)}`)]));
  const initializer = [...graph.initializer];
  const casts = tensors.flatMap(({ name, dataType, dims }) => {
    const [cast, shape] = [fresh(`${name}_cast`), fresh(`${name}_dims`)];
    const rank = [BigInt(dims.length)];
    initializer.push(create(TensorProtoSchema, { name: shape, dataType: dataTypes.int64, dims: rank, int64Data: dims }));
    const attribute = [{ name: 'to', i: BigInt(dataType), type: 2 }];
    return [
      create(NodeProtoSchema, { opType: 'Cast', input: [name], output: [cast], attribute }),
      create(NodeProtoSchema, { opType: 'Reshape', input: [cast, shape], output: [castNames.get(name)!] }),
    ];
  });
  const renamed = reading(graph, castNames);
  const changed = withFields(renamed, {
    initializer,
    node: [...casts, ...renamed.node],
    // Of the type that they had.
    valueInfo: graph.valueInfo.filter(({ name }) => !castNames.has(name)),
  });
  return withFields(proto, { graph: changed, opsetImport: opsets(proto) });
}

/** The graph with other names in the inputs of its nodes. Nothing inside it declares one of them anew. */
function reading(graph: GraphProto, names: ReadonlyMap<string, string>): GraphProto {
  const node = graph.node.map((one): NodeProto => {
    const input = one.input.map((name) => names.get(name) ?? name);
    const attribute = one.attribute.map((attribute) =>
      attribute.g || attribute.graphs.length > 0
        ? withFields(attribute, {
            ...(attribute.g ? { g: reading(attribute.g, names) } : {}),
            graphs: attribute.graphs.map((inner) => reading(inner, names)),
          })
        : attribute,
    );
    return withFields(one, { input, attribute });
  });
  return withFields(graph, { node });
}

function opsets({ opsetImport }: ModelProto): ModelProto['opsetImport'] {
  if (opsetImport.some(isStandard)) return opsetImport;
  return [...opsetImport, create(OperatorSetIdProtoSchema, { domain: '', version: BigInt(CAST_TO_BFLOAT16) })];
}

function assertCastable({ name: model, graph, proto }: Model, tensors: readonly TensorProto[]): void {
  const opset = Number(proto.opsetImport.find(isStandard)?.version ?? CAST_TO_BFLOAT16);
  const returned = new Set(graph.output.map(({ name }) => name));
  for (const { name, dataType } of tensors) {
    const needed = dataType === dataTypes.bfloat16 ? CAST_TO_BFLOAT16 : CAST;
    const weight = `Initializer "${name}" is ${dataTypeName(dataType)}`;
    if (opset < needed) {
      throw new RxgradError('unsupportedModel', {
        model,
        problem: `${weight}, which takes a Cast of operator set ${needed}, and the model is of ${opset}`,
        advice: 'Convert the model to a newer operator set or to float32, or name the float32 initializers through trainable',
      });
    }
    if (returned.has(name)) {
      throw new RxgradError('unsupportedModel', {
        model,
        problem: `${weight}, and an output of the graph, which could not have its type any more`,
        advice: 'Return it through an Identity node, or leave it out of trainable',
      });
    }
  }
}

function isStandard({ domain }: { readonly domain: string }): boolean {
  return domain === '' || domain === 'ai.onnx';
}
