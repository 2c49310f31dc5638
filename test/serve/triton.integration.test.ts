import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { HotSwapSession } from '../../src/inference/hot-swap-session.ts';
import { serve } from '../../src/serve/server.ts';
import { findPython } from '../python/find-python.ts';
import { everythingModel, linearModel } from './everything-model.ts';

it("is what NVIDIA's tritonclient takes it for, over HTTP and gRPC", async (context) => {
  const found = await findPython(['tritonclient', 'geventhttpclient', 'grpc']);
  if ('reason' in found) return context.skip(found.reason);
  const everything = await HotSwapSession.load(everythingModel());
  const linear = await HotSwapSession.load(linearModel());
  const server = await serve({ models: { everything, linear }, port: 0, grpcPort: 0, log: 'silent' });
  context.onTestFinished(async () => {
    await server.close();
    await Promise.all([everything.dispose(), linear.dispose()]);
  });
  for (const session of [everything, linear]) await session.warmUp();
  const lines = await round(found.python, `127.0.0.1:${server.port}`, `127.0.0.1:${server.grpcPort}`);
  expect(lines.filter((line) => !line.startsWith('ok '))).toEqual([]);
  const checks = (way: string) => lines.filter((line) => line.startsWith(`ok ${way} `)).map((line) => line.split(' ')[2]);
  expect(checks('http').length).toBeGreaterThan(25);
  expect(checks('grpc')).toEqual([...checks('http'), 'stream']);
});

/** The lines that the round prints; one in which something failed is no error of its own. */
function round(path: string, ...addresses: string[]): Promise<string[]> {
  const script = join(import.meta.dirname, 'triton_round.py');
  const options = { env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' } };
  return new Promise((resolve, reject) => {
    execFile(path, [script, ...addresses], options, (error, stdout, stderr) => {
      const lines = stdout.split('\n').filter((line) => line !== '');
      if (lines.length > 0) resolve(lines);
      else reject(new Error(`${error?.message ?? 'it printed nothing'}: ${stderr}`));
    });
  });
}
