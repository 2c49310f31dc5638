import type { NodeProto } from './onnx_pb.ts';

/**
 * What onnxruntime 1.30 ends the process over, where it should refuse a model: a `Split` that says another number of outputs than
 * it has. Returns what is wrong with such a node, or null.
 */
export function fatalProblemOf({ opType, name, output, attribute }: NodeProto): string | null {
  if (opType !== 'Split') return null;
  const said = attribute.find((one) => one.name === 'num_outputs');
  if (!said || Number(said.i) === output.length) return null;
  return `a Split${name ? ` "${name}"` : ''} of ${said.i} outputs that has ${output.length}`;
}
