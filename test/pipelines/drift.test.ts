import { expect, it } from 'vitest';
import { expectFailure, rxgrad } from './rxgrad.ts';

it('learns the stream while it predicts it, with the same figures every time', () => {
  const accuracies = () => rxgrad('run', 'drift', '--events', '2000').match(/^│ (?:x₀|all).*$/gm);
  const first = accuracies();
  expect(first).toHaveLength(5);
  expect(Number(/(\d+\.\d+) %/.exec(first!.at(-1)!)![1])).toBeGreaterThan(84);
  expect(accuracies()).toEqual(first);
});

it.each<[string[], RegExp]>([
  [['run', 'nothing'], /expected a pipeline name \(drift, momentum\) or a module file, got "nothing"/i],
  [['run', 'drift', '--brokers', 'nowhere'], /host:port/],
  [['run', 'drift', '--events', 'many'], /Expected a number/],
])('answers %j in a line that says what to do', expectFailure);
