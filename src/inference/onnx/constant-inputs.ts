import { graphsOf, nodesOf } from './model.ts';
import type { GraphProto, NodeProto } from './onnx_pb.ts';

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

/** The same of operators that are onnxruntime's own. */
const contributedConstantInputs: Readonly<Record<string, readonly number[]>> = {
  DynamicQuantizeLSTM: [8, 10],
  DynamicQuantizeMatMul: [2],
  GatherBlockQuantized: [2],
  MatMulBnb4: [2],
  MatMulIntegerToFloat: [2, 3],
  MatMulNBits: [2, 3],
  QAttention: [3, 4],
  QGemm: [1, 4, 7],
  QLinearAdd: [1, 4, 6],
  QLinearMul: [1, 4, 6],
  QMoE: [3, 6, 9],
};

/**
 * Positions at which onnxruntime computes with a constant alone: given as an input, results are wrong, and it does not say so. Its
 * kernel packs the quantised weights with the scales, where they are there at load (`accuracy_level` 4, or 8 bits).
 */
const onlyConstantInputs: Readonly<Record<string, readonly number[]>> = { MatMulNBits: [2, 3] };

/** Names the operator that computes with this value, or with what is made of it, only where it is a constant; undefined where none does. */
export function onlyConstantFor(graph: GraphProto, name: string): string | undefined {
  const made = new Set([name]);
  for (const node of nodesOf(graph)) {
    const positions = isContributed(node) ? positionsOf(onlyConstantInputs, node) : undefined;
    if (positions?.some((index) => made.has(node.input[index]!))) return node.opType;
    if (node.input.some((input) => made.has(input))) for (const output of node.output) made.add(output);
  }
  return undefined;
}

/** Collects the names that some node, control flow included, reads as a value that training may change, or that the graph returns. */
export function variableNames(graph: GraphProto): Set<string> {
  const names = new Set(graph.output.map((output) => output.name));
  for (const node of nodesOf(graph)) {
    const constant = isStandard(node)
      ? positionsOf(constantInputs, node)
      : isContributed(node)
        ? positionsOf(contributedConstantInputs, node)
        : undefined;
    for (const [index, name] of node.input.entries()) if (!constant?.includes(index)) names.add(name);
    for (const inner of graphsOf(node)) for (const output of inner.output) names.add(output.name);
  }
  // What an optional input is called that is not given.
  names.delete('');
  return names;
}

function isStandard({ domain }: NodeProto): boolean {
  return domain === '' || domain === 'ai.onnx';
}

function isContributed({ domain }: NodeProto): boolean {
  return domain === 'com.microsoft';
}

function positionsOf(table: Readonly<Record<string, readonly number[]>>, { opType }: NodeProto): readonly number[] | undefined {
  return Object.hasOwn(table, opType) ? table[opType] : undefined;
}
