import { RxgradError } from '../errors.ts';
import type { Model } from '../inference/onnx/model.ts';
import type { NodeProto } from '../inference/onnx/onnx_pb.ts';

/** One Linear of a perceptron, by the names of its initializers. */
export interface MlpLayer {
  readonly weight: string;
  readonly bias: string;
  readonly inputs: number;
  readonly outputs: number;
  /** The weight lies as [outputs, inputs] (Linear's own order), not as [inputs, outputs]. */
  readonly transB: boolean;
  readonly relu: boolean;
}

/** What a perceptron computes: its layers in order, from the feed named `input` to logits. The last layer has no ReLU. */
export interface MlpPlan {
  readonly model: string;
  readonly input: string;
  readonly layers: readonly MlpLayer[];
}

// They keep the order of the logits, so a loss and its gradient do not notice them.
const reshapes = new Set(['Reshape', 'Squeeze', 'Flatten']);

/** Reads the layers of a perceptron off a model's graph; one that is anything else than a chain of Gemm and Relu is refused. */
export function mlpPlan({ name: model, graph }: Pick<Model, 'name' | 'graph'>): MlpPlan {
  const refuse = (problem: string): never => {
    throw new RxgradError('unsupportedModel', {
      model,
      problem,
      advice: 'Gradients exist for a chain of Linear and ReLU layers that ends in logits',
    });
  };
  const dimsOf = new Map(graph.initializer.map(({ name, dims }) => [name, dims.map(Number)]));
  const inputs = graph.input.filter(({ name }) => !dimsOf.has(name));
  if (inputs.length !== 1 || graph.output.length !== 1) {
    refuse(`Expected one input and one output, got ${inputs.length} and ${graph.output.length}`);
  }

  const input = inputs[0]!.name;
  const layers: MlpLayer[] = [];
  let value = input;
  let ended = false;
  for (const node of graph.node) {
    const where = `node "${node.name || node.opType}"`;
    if (node.input[0] !== value) refuse(`Expected a chain, but ${where} reads "${node.input[0] ?? ''}" instead of "${value}"`);
    if (reshapes.has(node.opType) && layers.length > 0) ended = true;
    else if (ended) refuse(`Expected nothing after the final reshape, got ${node.opType} (${where})`);
    else if (node.opType === 'Gemm') layers.push(linear(node));
    else if (node.opType === 'Relu' && layers.length > 0) layers.push({ ...layers.pop()!, relu: true });
    else refuse(`Expected Gemm or Relu, got ${node.opType} (${where})`);
    value = node.output[0]!;
  }
  if (layers.length === 0 || graph.output[0]!.name !== value)
    refuse(`Expected the chain to end in the output "${graph.output[0]!.name}"`);
  if (layers.at(-1)!.relu) refuse('Expected logits at the end, got Relu');
  const names = layers.flatMap(({ weight, bias }) => [weight, bias]);
  if (new Set(names).size < names.length) refuse('Expected weights of its own for each layer, got shared ones');
  return { model, input, layers };

  function linear(node: NodeProto): MlpLayer {
    const attribute = new Map(node.attribute.map((it) => [it.name, it]));
    const transB = attribute.get('transB')?.i === 1n;
    const [, weight = '', bias = ''] = node.input;
    const dims = dimsOf.get(weight) ?? [];
    const [outputs = 0, inputs = 0] = transB ? dims : dims.toReversed();
    const isLinear =
      dims.length === 2 &&
      dimsOf.get(bias)?.reduce((size, dim) => size * dim, 1) === outputs &&
      (attribute.get('transA')?.i ?? 0n) === 0n &&
      (attribute.get('alpha')?.f ?? 1) === 1 &&
      (attribute.get('beta')?.f ?? 1) === 1;
    if (!isLinear) refuse(`Expected Gemm to be x·W + b with initializers W and b (node "${node.name}")`);
    return { weight, bias, inputs, outputs, transB, relu: false };
  }
}
