import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { mlpPlan } from '../../src/autodiff/mlp-plan.ts';
import { readModel } from '../../src/inference/onnx/model.ts';
import { NodeProtoSchema } from '../../src/inference/onnx/onnx_pb.ts';

const modelPath = (name: string) => new URL(`../models/${name}.onnx`, import.meta.url).pathname;

describe('mlpPlan', () => {
  it('reads the layers off a perceptron', () => {
    const { input, layers } = mlpPlan(readModel(modelPath('mlp')));
    expect(input).toBe('x');
    expect(layers).toEqual([
      { weight: '0.weight', bias: '0.bias', inputs: 6, outputs: 12, transB: true, relu: true },
      { weight: '2.weight', bias: '2.bias', inputs: 12, outputs: 3, transB: true, relu: false },
    ]);
  });

  it('takes a final reshape of the logits', () => {
    const { layers } = mlpPlan(readModel(modelPath('logistic')));
    expect(layers).toEqual([{ weight: '0.weight', bias: '0.bias', inputs: 7, outputs: 1, transB: true, relu: false }]);
  });

  it.each(['convnet', 'ctr', 'mixed-mlp', 'transformer'])('refuses %s', (name) => {
    expect(() => mlpPlan(readModel(modelPath(name)))).toThrow(expect.objectContaining({ code: 'RXGRAD_UNSUPPORTED_MODEL' }));
  });

  it('refuses what follows the logits, and names it', () => {
    const model = readModel(modelPath('mlp'));
    const output = model.graph.output[0]!;
    model.graph.node.push(
      create(NodeProtoSchema, { opType: 'Softmax', input: [output.name], output: ['probability'], name: 'last' }),
    );
    output.name = 'probability';
    expect(() => mlpPlan(model)).toThrow(/Expected Gemm or Relu, got Softmax \(node "last"\)/);
  });

  it('refuses a ReLU where logits should be', () => {
    const model = readModel(modelPath('mlp'));
    const output = model.graph.output[0]!;
    model.graph.node.push(create(NodeProtoSchema, { opType: 'Relu', input: [output.name], output: ['positive'], name: 'last' }));
    output.name = 'positive';
    expect(() => mlpPlan(model)).toThrow(/Expected logits at the end, got Relu/);
  });

  it('refuses a scaled Gemm', () => {
    const model = readModel(modelPath('mlp'));
    model.graph.node[0]!.attribute.find(({ name }) => name === 'alpha')!.f = 2;
    expect(() => mlpPlan(model)).toThrow(/Expected Gemm to be x·W \+ b/);
  });

  it('refuses a weight that two layers share', () => {
    const model = readModel(modelPath('mlp'));
    const gemms = model.graph.node.filter(({ opType }) => opType === 'Gemm');
    gemms[1]!.input = [gemms[1]!.input[0]!, ...gemms[0]!.input.slice(1)];
    expect(() => mlpPlan(model)).toThrow(/shared ones/);
  });

  it('refuses a branch', () => {
    const model = readModel(modelPath('mlp'));
    model.graph.node.at(-1)!.input[0] = 'x';
    expect(() => mlpPlan(model)).toThrow(/Expected a chain, but .* reads "x"/);
  });
});
