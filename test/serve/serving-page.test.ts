import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { serve } from '../../src/serve/index.ts';
import { servable } from './servable.ts';

const root = new URL('../../', import.meta.url);
const page = readFileSync(new URL('docs/serving.md', root), 'utf8');
const examples = [...page.matchAll(/^```sh\n([\s\S]*?)^```\n\n```json\n([\s\S]*?)^```/gm)].map(([, command, answer]) => ({
  command: command!,
  answer: JSON.parse(answer!),
}));
const token = 'token-of-the-page';

/** What differs from run to run, or in the last bit from one processor to the next. */
function settled(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, part) => {
      if (key === 'age_ms') return 0;
      if (key === 'made_at') return '';
      return typeof part === 'number' && !Number.isInteger(part) ? Number(part.toFixed(5)) : part;
    }),
  );
}

it('shows commands with what they answer', async (t) => {
  const mlp = await servable(t, fileURLToPath(new URL('test/models/mlp.onnx', root)));
  const server = await serve({ models: { mlp }, port: 0, token, log: 'silent' });
  t.onTestFinished(() => server.close());
  expect(examples.length).toBeGreaterThan(5);
  for (const { command, answer } of examples) {
    const here = command.replaceAll('http://localhost:8000', server.url);
    const env = { ...process.env, RXGRAD_ADMIN_TOKEN: token };
    const { stdout } = await promisify(execFile)('sh', ['-c', here], { env, encoding: 'latin1' });
    // Behind the JSON there may be bytes of tensors.
    const json = stdout.slice(0, stdout.lastIndexOf('}') + 1);
    expect(settled(JSON.parse(json)), command).toEqual(settled(answer));
  }
});
