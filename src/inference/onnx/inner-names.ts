import { graphsOf, nodesOf } from './model.ts';
import type { GraphProto, NodeProto } from './onnx_pb.ts';

/** What graphs inside control flow declare, by name, with the operator that they are inside of. */
export interface InnerNames {
  /** Initializers, inputs, and outputs of nodes. */
  readonly declared: ReadonlyMap<string, string>;
  readonly initializers: ReadonlyMap<string, string>;
}

export function innerNames(graph: GraphProto): InnerNames {
  const declared = new Map<string, string>();
  const initializers = new Map<string, string>();
  for (const node of nodesOf(graph)) {
    for (const inner of graphsOf(node)) {
      const within = calledIn(node);
      for (const { name } of inner.initializer) initializers.set(name, within);
      for (const { values } of inner.sparseInitializer) if (values) initializers.set(values.name, within);
      for (const { name } of inner.input) declared.set(name, within);
      for (const one of inner.node) for (const output of one.output) declared.set(output, within);
    }
  }
  for (const [name, within] of initializers) declared.set(name, within);
  return { declared, initializers };
}

/** Whether a node of type Constant makes this value. */
export function isOfConstantNode(graph: GraphProto, name: string): boolean {
  for (const node of nodesOf(graph)) if (node.opType === 'Constant' && node.output.includes(name)) return true;
  return false;
}

/** Every name that is in use, at any depth. */
export function allNames(graph: GraphProto): Set<string> {
  const names = new Set(innerNames(graph).declared.keys());
  for (const { name } of [...graph.initializer, ...graph.input, ...graph.output]) names.add(name);
  for (const { input, output } of nodesOf(graph)) for (const name of [...input, ...output]) names.add(name);
  return names;
}

function calledIn({ opType, name }: NodeProto): string {
  return name ? `${opType} "${name}"` : opType;
}
