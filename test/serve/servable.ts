import type { TestContext } from 'vitest';
import { HotSwapSession } from '../../src/inference/hot-swap-session.ts';
import { dataTypeName } from '../../src/inference/onnx/data-types.ts';
import { readModel } from '../../src/inference/onnx/model.ts';
import type { Servable } from '../../src/serve/served-models.ts';

/** A session, as servers take it. */
export async function servable(
  t: Pick<TestContext, 'onTestFinished'>,
  onnx: string | Uint8Array,
): Promise<Servable & { session: HotSwapSession }> {
  const session = await HotSwapSession.load(onnx);
  t.onTestFinished(() => session.dispose());
  const outputs = readModel(onnx).graph.output.map(({ name, type }) => {
    if (type?.value.case !== 'tensorType') throw new Error(`${name} is no tensor`);
    const { elemType, shape } = type.value.value;
    const dims = shape?.dim.map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : String(value.value)));
    return { name, type: dataTypeName(elemType), dims };
  });
  return {
    session,
    inputs: session.inputs,
    outputs,
    get version() {
      return session.version;
    },
    ready: true,
    status: { providers: ['cpu'], workers: 0, queued: 0 },
    async predict(feeds) {
      return { ...(await session.predict(feeds)), ageMs: 0, position: null, stale: false };
    },
    versions: () => session.versions(),
    rollback: (version) => session.rollback(version),
    pin: (version) => session.pin(version),
    unpin: () => session.unpin(),
    label: (version, name) => session.label(version, name),
  };
}
