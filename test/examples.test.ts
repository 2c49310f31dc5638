import { execFileSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as rxgrad from 'rxgrad';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('../', import.meta.url));

/** What examples use without saying where it comes from: names by module. */
const modules: Readonly<Record<string, readonly string[]>> = {
  rxgrad: Object.keys(rxgrad),
  rxjs: ['auditTime', 'count', 'defer', 'lastValueFrom', 'pipe', 'retry', 'scan', 'switchMap', 'tap'],
  'onnxruntime-node': ['Tensor'],
  'node:worker_threads': ['workerData'],
  '../src/kernels/kernel.ts': ['kernel', 'add', 'mul', 'sub'],
  '../src/inference/onnx/model.ts': ['readModel'],
  '../src/autodiff/mlp-plan.ts': ['mlpPlan'],
  '../src/autodiff/mlp-gradients.ts': ['mlpGradients'],
  '../src/sources/kafka/index.ts': ['kafkaTransport'],
  '../src/serve/index.ts': ['serve'],
};
const surroundings = [
  ...Object.entries(modules).flatMap(([from, names]) => names.map((name) => `const ${name}: typeof import('${from}').${name};`)),
  "type Pipeline = import('../src/cli/pipeline.ts').Pipeline;",
  "const gradients$: import('rxjs').Observable<import('rxgrad').TrainingEvent>;",
  "const labelled$: import('rxjs').Observable<import('rxgrad').LabelledExamples>;",
  "type GateDecision = import('rxgrad').GateDecision;",
  "type GateOptions = import('rxgrad').GateOptions;",
  "const session: import('rxgrad').HotSwapSession;",
  "const params: import('rxgrad').Parameters, other: import('rxgrad').Parameters;",
  "const transport: import('rxgrad').Transport;",
  "const store: import('rxgrad').CheckpointStore;",
  "const plan: import('rxgrad').ShardPlan;",
  'const path: string;',
  'const features: Float32Array;',
  'const labels: Float32Array;',
];

/** What is marked as an example in a docstring, or as TypeScript in a page. */
function examplesOf(file: string): string[] {
  const text = readFileSync(root + file, 'utf8');
  if (file.endsWith('.md')) return [...text.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, block]) => block!);
  const blocks = text.matchAll(/@example\n([\s\S]*?)\n\s*\*\//g);
  return [...blocks].map(([, block]) => block!.replace(/^\s*\* ?/gm, ''));
}

it('documents with examples that the compiler accepts', (t) => {
  const folder = mkdtempSync(`${root}.rxgrad-examples-`);
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  let examples = 0;
  for (const file of globSync(['src/**/*.ts', 'docs/*.md'], { cwd: root })) {
    for (const example of examplesOf(file)) {
      writeFileSync(`${folder}/${examples++}-${file.replaceAll('/', '-').replace(/\.md$/, '.ts')}`, `${example}\nexport {};\n`);
    }
  }
  expect(examples).toBeGreaterThan(10);
  writeFileSync(`${folder}/surroundings.d.ts`, `declare global {\n${surroundings.join('\n')}\n}\nexport {};\n`);
  const compilerOptions = { noUnusedLocals: false, rootDir: '..' };
  const include = ['*.ts', '../src/kernels/webassembly.d.ts'];
  writeFileSync(`${folder}/tsconfig.json`, JSON.stringify({ extends: '../tsconfig.json', compilerOptions, include }));
  expect(complaintsOf(`${root}node_modules/typescript/bin/tsc`, folder)).toBe('');
});

function complaintsOf(compiler: string, project: string): string {
  try {
    return execFileSync(process.execPath, [compiler, '-p', project], { encoding: 'utf8' });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}
