import type { TestContext } from 'vitest';
import { HotSwapSession, type HotSwapSessionOptions } from '../../src/inference/hot-swap-session.ts';
import type { Servable } from '../../src/serve/served-models.ts';

/** A session as servers take it, with parts that a test can put others in the place of. */
export type ServableSession = { -readonly [K in keyof Servable]: Servable[K] } & { readonly session: HotSwapSession };

export async function servable(
  t: Pick<TestContext, 'onTestFinished'>,
  onnx: string | Uint8Array,
  options: HotSwapSessionOptions = {},
): Promise<ServableSession> {
  const session = await HotSwapSession.load(onnx, undefined, options);
  t.onTestFinished(() => session.dispose());
  await session.warmUp();
  return {
    session,
    inputs: session.inputs,
    outputs: session.outputs,
    get version() {
      return session.version;
    },
    ready: session.ready,
    status: session.status,
    predict: (feeds, asked) => session.predict(feeds, asked as object),
    versions: () => session.versions(),
    rollback: (version) => session.rollback(version),
    pin: (version) => session.pin(version),
    unpin: () => session.unpin(),
    label: (version, name) => session.label(version, name),
  };
}
