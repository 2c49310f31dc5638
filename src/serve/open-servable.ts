import { Tensor } from 'onnxruntime-node';
import { HotSwapSession, type HotSwapSessionOptions } from '../inference/hot-swap-session.ts';
import { dataTypeName } from '../inference/onnx/data-types.ts';
import { readModel } from '../inference/onnx/model.ts';
import type { Feeds } from '../inference/runner.ts';
import type { Swappable } from '../sinks/hot-swap.ts';
import { datatypeOf, type NumericDatatype, numericArray } from './datatypes.ts';
import type { Servable, ServablePredictOptions, ServableTensor } from './served-models.ts';

/** A session as a server needs it. */
export interface OpenServable extends Servable, Swappable {
  warmUp(requests?: Iterable<Feeds>): Promise<void>;
  dispose(): Promise<void>;
}

/** Opens a model to be served. */
export async function openServable(onnx: string | Uint8Array, options: HotSwapSessionOptions = {}): Promise<OpenServable> {
  const session = await HotSwapSession.load(onnx, undefined, options);
  const { params } = session;
  let ready = false;
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
    swap: () => session.swap(),
    versions: () => session.versions(),
    rollback: (version) => session.rollback(version),
    pin: (version) => session.pin(version),
    unpin: () => session.unpin(),
    label: (version, name) => session.label(version, name),
    async warmUp(requests = [madeUp(session)]) {
      for (const feeds of requests) await session.predict(feeds);
      ready = true;
    },
    dispose: () => session.dispose(),
  };
}

function madeUp({ inputs }: HotSwapSession): Feeds {
  return Object.fromEntries(
    inputs.map(({ name, type, dims = [1] }) => {
      const shape = dims.map((dim) => (typeof dim === 'number' ? dim : 1));
      const elements = shape.reduce((size, dim) => size * dim, 1);
      const data =
        type === 'string' ? new Array<string>(elements).fill('') : numericArray(datatypeOf(type) as NumericDatatype, elements);
      return [name, new Tensor(type as 'float32', data as Float32Array, shape)];
    }),
  );
}

function outputsOf(onnx: string | Uint8Array): ServableTensor[] {
  return readModel(onnx).graph.output.map(({ name, type }) => {
    if (type?.value.case !== 'tensorType') return { name, type: 'not a tensor', dims: undefined };
    const { elemType, shape } = type.value.value;
    const dims = shape?.dim.map(({ value }) => (value.case === 'dimValue' ? Number(value.value) : value.value || '?'));
    return { name, type: dataTypeName(elemType), dims };
  });
}
