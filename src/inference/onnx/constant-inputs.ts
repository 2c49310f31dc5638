import { nodesOf } from './model.ts';
import type { GraphProto } from './onnx_pb.ts';

/** Input positions, by operator, that hold settings and statistics: floating-point, but nothing that a gradient step changes. */
const constantInputs: Readonly<Record<string, readonly number[]>> = {
  BatchNormalization: [3, 4],
  Clip: [1, 2],
  DequantizeLinear: [1],
  Dropout: [1],
  NonMaxSuppression: [3, 4],
  OneHot: [2],
  Pad: [2],
  QLinearConv: [1, 4, 6],
  QLinearMatMul: [1, 4, 6],
  QuantizeLinear: [1],
  Range: [0, 1, 2],
  Resize: [1, 2],
  STFT: [2],
  Upsample: [1],
};

/** Collects the names that some node, control flow included, reads as a value that training may change, or that the graph returns. */
export function variableNames(graph: GraphProto): Set<string> {
  const names = new Set(graph.output.map((output) => output.name));
  for (const node of nodesOf(graph)) {
    const standard = node.domain === '' || node.domain === 'ai.onnx';
    const constant = standard && Object.hasOwn(constantInputs, node.opType) ? constantInputs[node.opType] : undefined;
    for (const [index, name] of node.input.entries()) if (!constant?.includes(index)) names.add(name);
    for (const attribute of node.attribute) {
      for (const inner of attribute.g ? [attribute.g, ...attribute.graphs] : attribute.graphs) {
        for (const output of inner.output) names.add(output.name);
      }
    }
  }
  return names;
}
