import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

function rxgrad(...args: string[]): string {
  const flags = ['--disable-warning=ExperimentalWarning'];
  return execFileSync(process.execPath, [...flags, `${root}dist/src/cli/main.js`, ...args], { encoding: 'utf8', stdio: 'pipe' });
}

it('learns the stream while it predicts it, with the same figures every time', () => {
  const accuracies = () => rxgrad('run', 'drift', '--events', '2000').match(/^│ (?:x₀|all).*$/gm);
  const first = accuracies();
  expect(first).toHaveLength(5);
  expect(Number(/(\d+\.\d+) %/.exec(first!.at(-1)!)![1])).toBeGreaterThan(84);
  expect(accuracies()).toEqual(first);
});

it.each([
  [['run', 'nothing'], /expected a pipeline name \(drift, momentum\) or a module file, got "nothing"/i],
  [['run', 'drift', '--brokers', 'nowhere'], /host:port/],
  [['run', 'drift', '--events', 'many'], /Expected a number/],
  [['run', 'momentum'], /--model/],
  [['run', 'momentum', '--model', 'missing.onnx', '--topic', 't'], /missing.onnx.*RXGRAD_INVALID_MODEL/],
])('answers %j in a line that says what to do', (args, message) => {
  let failure: { stderr: string; status: number } | undefined;
  try {
    rxgrad(...args);
  } catch (error) {
    failure = error as { stderr: string; status: number };
  }
  expect(failure?.status).toBe(1);
  expect(failure?.stderr.trim()).toMatch(message);
  expect(failure?.stderr.trim().split('\n')).toHaveLength(1);
});
