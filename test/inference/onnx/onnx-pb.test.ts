import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';

it('the generated schema is what onnx.proto generates', (t) => {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-`);
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  execFileSync('npm', ['run', '--silent', 'generate:onnx', '--', '--output', folder], { stdio: 'pipe' });
  const path = 'src/inference/onnx/onnx_pb.ts';
  expect(readFileSync(`${folder}/${path}`, 'utf8')).toBe(readFileSync(path, 'utf8'));
});
