import { HotSwapSession, type HotSwapSessionOptions } from '../inference/hot-swap-session.ts';
import { dataTypeName } from '../inference/onnx/data-types.ts';
import { readModel } from '../inference/onnx/model.ts';
import type { Parameters } from '../params/parameters.ts';
import type { Servable, ServablePredictOptions, ServableTensor, ServableVersion } from './served-models.ts';

/** A session as a server needs it. */
export interface OpenServable extends Servable {
  readonly params: Parameters;
  warmUp(): Promise<void>;
  dispose(): Promise<void>;
}

/** Opens a model to be served. */
export async function openServable(onnx: string | Uint8Array, options: HotSwapSessionOptions = {}): Promise<OpenServable> {
  const session = await HotSwapSession.load(onnx, undefined, options);
  const { params } = session;
  let ready = false;
  const versions = (): ServableVersion[] => {
    const kept = params.kept.list().map((of) => ({ ...of, live: of.version === params.liveVersion, inMemory: true }));
    const live = { ...params.live, labels: [], live: true, inMemory: true };
    const all = kept.some((of) => of.live) ? kept : [live, ...kept];
    return all.map((of) => ({ ...of, pinned: params.pinned && of.live }));
  };
  return {
    params,
    inputs: session.inputs,
    outputs: outputsOf(onnx),
    get version() {
      return session.version;
    },
    get ready() {
      return ready;
    },
    status: { providers: ['cpu'], workers: 0, queued: 0 },
    async predict(feeds, { version }: ServablePredictOptions = {}) {
      if (version !== undefined && version !== session.version) params.kept.find(version);
      const prediction = await session.predict(feeds);
      const { madeAtMs, position } = params.live;
      return { ...prediction, ageMs: Date.now() - madeAtMs, position, stale: false };
    },
    versions: async () => versions(),
    rollback: (version) => params.show(params.kept.find(version)),
    pin: (version) => params.pin(version === undefined ? undefined : params.kept.find(version)),
    unpin: () => params.unpin(),
    label: (version, name) => params.kept.label(version, name),
    async warmUp() {
      ready = true;
    },
    dispose: () => session.dispose(),
  };
}

function outputsOf(onnx: string | Uint8Array): ServableTensor[] {
  return readModel(onnx).graph.output.map(({ name, type }) => {
    if (type?.value.case !== 'tensorType') return { name, type: 'not a tensor', dims: undefined };
    const { elemType, shape } = type.value.value;
    const dims = shape?.dim.map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : value.value || '?'));
    return { name, type: dataTypeName(elemType), dims };
  });
}
