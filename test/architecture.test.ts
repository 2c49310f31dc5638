import { globSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../', import.meta.url));
const importing = /^(?:import|export)\b[^;']*'([^']+)'|\bimport\('([^']+)'\)/gm;

interface Import {
  readonly file: string;
  /** A path from the root for a file, else the package. */
  readonly of: string;
}

const files = globSync('{src,pipelines}/**/*.ts', { cwd: root, exclude: ['src/kernels/assembly/**'] });
const imports: Import[] = files.flatMap((file) =>
  [...code(file).matchAll(importing)].map(([, named, dynamic]) => {
    const specifier = (named ?? dynamic)!;
    return { file, of: specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier) : specifier };
  }),
);

/** A file without its comments. */
function code(file: string): string {
  return readFileSync(root + file, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
}

/** `kernels` for src/kernels/arena.ts, `events` for src/events.ts, `pipelines` for what lies there. */
function partOf(path: string): string {
  return path
    .replace(/^src\//, '')
    .split('/')[0]!
    .replace('.ts', '');
}

/** What each part may import beside itself: from the bottom up. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  runtime: ['errors'],
  options: ['errors'],
  threads: [],
  kernels: ['threads', 'errors'],
  'narrow-floats': [],
  params: ['threads', 'narrow-floats', 'kernels', 'errors', 'options'],
  'part-name': [],
  setting: ['options', 'part-name'],
  payload: ['kernels', 'errors'],
  'write-payload': ['payload'],
  staleness: ['options', 'errors'],
  pending: ['staleness', 'payload', 'setting', 'kernels', 'errors'],
  pack: ['payload', 'errors'],
  record: [],
  events: ['record', 'pack', 'pending', 'payload', 'errors'],
  'worker-id': ['record'],
  seen: ['worker-id', 'events', 'errors'],
  schedules: ['errors', 'options'],
  observe: ['events', 'errors', 'optimizers'],
  once: ['seen', 'worker-id', 'events', 'errors'],
  'record-mark': ['record'],
  reached: ['seen', 'events', 'record', 'record-mark'],
  stages: [
    'worker-id',
    'staleness',
    'once',
    'pack',
    'payload',
    'kernels',
    'events',
    'pending',
    'setting',
    'options',
    'errors',
    'observe',
  ],
  optimizers: [
    'staleness',
    'once',
    'reached',
    'stages',
    'schedules',
    'params',
    'kernels',
    'events',
    'pending',
    'payload',
    'setting',
    'options',
    'errors',
    'observe',
    'part-name',
  ],
  sources: [
    'worker-id',
    'narrow-floats',
    'record',
    'write-payload',
    'events',
    'pending',
    'payload',
    'options',
    'errors',
    'observe',
  ],
  shards: ['write-payload', 'optimizers', 'params', 'events', 'pending', 'payload', 'options', 'errors', 'part-name'],
  checkpoints: [
    'reached',
    'record-mark',
    'threads',
    'optimizers',
    'sources',
    'params',
    'kernels',
    'events',
    'options',
    'errors',
    'observe',
  ],
  weights: ['part-name', 'sources', 'optimizers', 'params', 'kernels', 'payload', 'events', 'options', 'errors', 'observe'],
  sinks: [
    'worker-id',
    'checkpoints',
    'weights',
    'optimizers',
    'params',
    'events',
    'options',
    'errors',
    'observe',
    'sources',
    'record',
  ],
  inference: ['threads', 'narrow-floats', 'params', 'options', 'errors', 'observe'],
  autodiff: ['inference', 'params', 'events', 'options', 'errors'],
  gates: ['autodiff', 'inference', 'optimizers', 'params', 'options', 'errors', 'observe'],
};

/** Parts at the top, which may import any but each other. */
const tops = ['index', 'serve', 'cli', 'pipelines'];

function offending(rule: (edge: Import) => boolean): string[] {
  return imports.filter(rule).map(({ file, of }) => `${file} imports ${of}`);
}

describe('imports', () => {
  it('are found', () => {
    expect(imports.length).toBeGreaterThan(files.length);
    expect(imports).toContainEqual({ file: 'src/stages/stage.ts', of: 'src/pending.ts' });
  });

  it('point one way', () => {
    const wrong = offending(({ file, of }) => {
      const [from, to] = [partOf(file), partOf(of)];
      return of.startsWith('src/') && from !== to && !tops.includes(from) && !(allowed[from] ?? []).includes(to);
    });
    expect(wrong).toEqual([]);
  });

  it('go round in no circle', () => {
    const targets = Map.groupBy(imports, ({ file }) => file);
    const done = new Set<string>();
    const circles: string[] = [];
    function visit(file: string, path: readonly string[]): void {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '));
      if (done.has(file) || path.includes(file)) return;
      for (const { of } of targets.get(file) ?? []) visit(of, [...path, file]);
      done.add(file);
    }
    for (const file of files) visit(file, []);
    expect(circles).toEqual([]);
  });

  it('reach the one barrel from the top alone', () => {
    expect(offending(({ file, of }) => of === 'src/index.ts' && !tops.includes(partOf(file)))).toEqual([]);
    const barrels = files.filter((file) => file.endsWith('/index.ts'));
    expect(barrels.toSorted()).toEqual(['src/index.ts', 'src/serve/index.ts', 'src/sources/kafka/index.ts']);
  });

  it.each([
    ['rxjs', /^(?!src\/(kernels|params)\/)/, 'outside the arithmetic'],
    ['kafkajs', /^src\/sources\/kafka\//, 'in its adapter'],
    ['onnxruntime-node', /^(src\/(inference|autodiff|serve|cli)|pipelines)\//, 'where models run'],
    ['node:sqlite', /^src\/sources\//, 'in the embedded log'],
  ])('of %s stay %s (%s)', (name, place) => {
    expect(offending(({ file, of }) => of === name && !place.test(file))).toEqual([]);
  });

  it('of the Kafka adapter are made when it is used', () => {
    const early = files.filter(
      (file) =>
        !file.startsWith('src/sources/kafka/') && /^(?:import|export) (?!type\b)[^;']*'[^']*\/kafka\/[^']*'/m.test(code(file)),
    );
    expect(early).toEqual([]);
  });
});

it('touches WebAssembly in the kernels alone', () => {
  const users = files.filter((file) => /\bWebAssembly\./.test(code(file)));
  expect(users.filter((file) => !file.startsWith('src/kernels/'))).toEqual([]);
  expect(users).toContain('src/kernels/kernels.ts');
});

it('blocks a thread in its own threads alone, and at the exit: who reads weights, or computes, may be on the thread that waits', () => {
  const blocking = files.filter((file) => /\bAtomics\.wait\(/.test(code(file)));
  expect(blocking.toSorted()).toEqual([
    // Threads that wait to be asked.
    'src/inference/at-work.ts',
    'src/inference/link-server.ts',
    // The process ends, and lets threads end their runs.
    'src/inference/stop-at-exit.ts',
    // Threads of the pool, which wait for jobs.
    'src/kernels/pool/job-queue.ts',
  ]);
});

it('has tests that neither measure time nor set a limit for it: a busy machine would fail them', () => {
  const tests = globSync('test/**/*.ts', { cwd: root, exclude: ['test/eventually.ts', 'test/architecture.test.ts'] });
  const timed = /\bvi\.wait(?:For|Until)\(|\bexpect\((?:performance|Date)\.now\(\)|\bexpect\.poll\([^;]*\btimeout:/;
  expect(tests.filter((file) => timed.test(code(file)))).toEqual([]);
});
