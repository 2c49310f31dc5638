import asc from 'assemblyscript/asc';

// No relaxed SIMD and no fused multiply-add: the same log has to give the same bits on every machine.
const { error, stderr } = await asc.main([
  new URL('./assembly/index.ts', import.meta.url).pathname,
  '--outFile',
  new URL('./kernels.wasm', import.meta.url).pathname,
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
]);

if (error) {
  process.stderr.write(stderr.toString());
  throw error;
}
