import { Tensor } from 'onnxruntime-node';
import type { Feeds } from '../runner.ts';

/** Tensors as `postMessage` carries them. */
export type PlainFeeds = Readonly<Record<string, Pick<Tensor, 'type' | 'data' | 'dims'>>>;

/** Copies feeds: whoever fed them may write over them. */
export function plainFeeds(feeds: Feeds): PlainFeeds {
  const entries = Object.entries(feeds).map(([name, { type, data, dims }]) => {
    return [name, { type, data: (data as Float32Array).slice(), dims: [...dims] }] as const;
  });
  return Object.fromEntries(entries);
}

export function tensorsOf(feeds: PlainFeeds): Feeds {
  const entries = Object.entries(feeds).map(([name, { type, data, dims }]) => {
    return [name, new Tensor(type, data as Float32Array, dims)] as const;
  });
  return Object.fromEntries(entries);
}
