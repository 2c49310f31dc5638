import { readFileSync } from 'node:fs';
import { type InferenceSession, listSupportedBackends } from 'onnxruntime-node';
import { HotSwapSession } from 'rxgrad';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { openSession, tellFallback } from '../../src/inference/open-session.ts';
import { example, feedsOf } from './onnx/example-models.ts';

const mlp = readFileSync(example('mlp').path);
const model = { name: 'mlp', bytes: mlp, folder: undefined };
type Providers = NonNullable<InferenceSession.SessionOptions['executionProviders']>;

async function opened(executionProviders?: Providers): Promise<{ providers: readonly string[]; warnings: unknown[][] }> {
  const emitted = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  try {
    const options = executionProviders ? { executionProviders } : {};
    const { session, opening } = await openSession(model, { ...options, logSeverityLevel: 4 });
    tellFallback(opening);
    const outputs = await session.run(feedsOf(example('mlp')));
    expect(outputs.output!.dims).toHaveLength(2);
    await session.release();
    return { providers: opening.providers, warnings: [...emitted.mock.calls] };
  } finally {
    emitted.mockRestore();
  }
}

/** Those that cannot be on this platform, whatever its devices. */
const missing = ['coreml', 'cuda', 'dml', 'tensorrt'].filter((name) => !listSupportedBackends().some((one) => one.name === name));

it('is of the CPU where nothing else is asked for', async () => {
  for (const asked of [undefined, [], ['cpu'], [{ name: 'cpu', useArena: false }]] as const) {
    expect(await opened(asked)).toEqual({ providers: ['cpu'], warnings: [] });
  }
});

it('falls back in order, with one warning that says what is in use', async () => {
  const [first] = missing;
  const asked = [{ name: first!, deviceId: 0 }, 'cpu'];
  const { providers, warnings } = await opened(asked);
  expect(providers).toEqual(['cpu']);
  const none = `onnxruntime-node has none for ${process.platform} on ${process.arch}`;
  const text = `Expected the execution providers ${first}, cpu, but not all are there (${first}: ${none}). In use: cpu`;
  expect(warnings).toEqual([[text, { code: 'RXGRAD_PROVIDER_MISSING' }]]);
  expect((await opened(asked)).warnings, 'of the same again').toEqual([]);
});

it('opens whatever is asked for, and uses what of it there is', async () => {
  const asked = ['tensorrt', 'cuda', 'webgpu', 'coreml', 'cuda'];
  const { providers, warnings } = await opened(asked);
  expect(providers.at(-1)).toBe('cpu');
  expect(providers.slice(0, -1)).toEqual(['tensorrt', 'cuda', 'webgpu', 'coreml'].filter((name) => providers.includes(name)));
  const left = ['tensorrt', 'cuda', 'webgpu', 'coreml'].filter((name) => !providers.includes(name));
  expect(warnings).toHaveLength(left.length > 0 ? 1 : 0);
  for (const name of left) expect(String(warnings[0]![0])).toContain(`${name}: `);
});

describe('refuses', () => {
  it.each([[['bogus']], [['CUDA']], [[{ name: 'wasm' }]], [[null]], ['gpu'], [[3]]])(
    '%j as providers',
    async (executionProviders) => {
      const options = { executionProviders: executionProviders as unknown as Providers };
      await expect(openSession(model, options)).rejects.toMatchObject({
        code: 'RXGRAD_INVALID_OPTION',
        message: expect.stringContaining('executionProviders: expected cpu, coreml, cuda, dml, qnn, tensorrt, webgpu, got'),
      });
    },
  );

  it('what no provider can open, without a warning of providers', async () => {
    const emitted = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    onTestFinished(() => emitted.mockRestore());
    const options = { executionProviders: [missing[0]!], logSeverityLevel: 4 } as const;
    await expect(openSession({ ...model, bytes: mlp.subarray(0, 500) }, options)).rejects.toMatchObject({
      code: 'RXGRAD_INVALID_MODEL',
      message: expect.stringContaining('mlp: expected an ONNX model, got one that onnxruntime refuses'),
    });
    expect(emitted).not.toHaveBeenCalled();
  });
});

it.each([0, 2])('tells what is in use, and warns once, with %d workers', async (workers) => {
  const emitted = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  onTestFinished(() => emitted.mockRestore());
  const executionProviders = [{ name: missing[0]!, deviceId: workers + 1 }, missing[1]!];
  const session = await HotSwapSession.load(mlp, undefined, { workers, session: { executionProviders } });
  expect(session.status.providers).toEqual(['cpu']);
  await session.dispose();
  expect(emitted.mock.calls.length).toBeLessThanOrEqual(1);
});
