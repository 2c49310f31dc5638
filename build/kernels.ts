import { readFileSync } from 'node:fs';
import asc from 'assemblyscript/asc';
import { callWords } from '../src/kernels/call.ts';
import { kernels } from '../src/optimizers/kernels.ts';
import { emitKernel, preamble } from './emit-kernel.ts';

const folder = new URL('../src/kernels/assembly/', import.meta.url);
// The loops of the rules exist as their definitions only, as does where a call has its parts; the compiler reads them as files.
const made: Readonly<Record<string, string>> = {
  'rules.ts': [preamble, ...kernels.map(emitKernel)].join('\n'),
  'words.ts': Object.entries(callWords)
    .map(([name, word]) => `export const ${name.toUpperCase()}: i32 = ${word};`)
    .join('\n'),
};

// No relaxed SIMD and no fused multiply-add: the same log has to give the same bits on every machine.
const { error, stderr } = await asc.main(
  [
    'index.ts',
    '--baseDir',
    folder.pathname,
    '--outFile',
    new URL('../kernels.wasm', folder).pathname,
    '-O3',
    '--noAssert',
    '--runtime',
    'stub',
    '--enable',
    'simd,threads',
    '--importMemory',
    '--sharedMemory',
    '--initialMemory',
    '1',
    '--maximumMemory',
    '65536',
  ],
  { readFile: (name) => made[name] ?? sourceOf(name) },
);

if (error) {
  process.stderr.write(stderr.toString());
  throw error;
}

/** The compiler asks for files that may not be there. */
function sourceOf(name: string): string | null {
  try {
    return readFileSync(new URL(name, folder), 'utf8');
  } catch {
    return null;
  }
}
