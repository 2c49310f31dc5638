import { expect, it } from 'vitest';
import { variableNames } from '../../../src/inference/onnx/constant-inputs.ts';
import { readModel } from '../../../src/inference/onnx/model.ts';
import { trainableInitializers } from '../../../src/inference/onnx/trainable-initializers.ts';
import { buildModel, floats, graph, node, value } from './build-model.ts';

const normalization = node('BatchNormalization', ['x', 'scale', 'bias', 'mean', 'variance'], ['n']);
const initializer = ['scale', 'bias', 'mean', 'variance'].map((name) => floats(name, [2], [1, 1]));
const outer = { input: [value('x', [1, 2])], output: [value('y')] };

it('scale and bias of BatchNormalization are trained, its statistics only when named', () => {
  const model = readModel(buildModel({ ...outer, node: [normalization, node('Relu', ['n'], ['y'])], initializer }));
  expect(trainableInitializers(model).map(({ name }) => name)).toEqual(['scale', 'bias']);
  expect(trainableInitializers(model, ['mean']).map(({ name }) => name)).toEqual(['mean']);
});

it('one reader that computes with a value is enough', () => {
  const names = variableNames(graph({ ...outer, node: [normalization, node('Add', ['n', 'mean'], ['y'])] }));
  expect(names).toContain('mean');
  expect(names).not.toContain('variance');
});

it('an operator of the same name in another domain may do anything with it', () => {
  const names = variableNames(graph({ ...outer, node: [{ ...normalization, domain: 'com.example' }] }));
  expect(names).toContain('variance');
});

it('readers inside control flow count', () => {
  const branch = graph({ node: [node('Add', ['x', 'inside'], ['b'])], output: [value('b'), value('returned')] });
  const names = variableNames(
    graph({ ...outer, node: [node('If', ['c'], ['y', 'z'], [{ name: 'then_branch', g: branch, type: 5 }])] }),
  );
  expect(names).toContain('inside');
  expect(names).toContain('returned');
});
