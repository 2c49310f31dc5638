import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../', import.meta.url));

it('runs the ten lines of the README against what is built', (t) => {
  const readme = readFileSync(`${root}README.md`, 'utf8');
  const [, code] = /## Ten lines\n\n```ts\n([\s\S]*?)```/.exec(readme) ?? [];
  expect(code, 'a ts block under the heading "Ten lines"').toBeDefined();
  // Inside the package, so that `rxgrad` names itself; not under a name that Git or Vitest looks at.
  const folder = mkdtempSync(`${root}.rxgrad-readme-`);
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(`${folder}/example.ts`, code!);
  const output = execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', `${folder}/example.ts`], {
    encoding: 'utf8',
  });
  const [version, norm, ...weights] = output.match(/-?\d+\.?\d*(?:e-?\d+)?/g)!.map(Number);
  expect([version, norm]).toEqual([1, 5]);
  expect(weights.slice(-2)[0]).toBeCloseTo(0.94, 6);
  expect(weights.slice(-2)[1]).toBeCloseTo(0.92, 6);
});
