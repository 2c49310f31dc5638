import type { Tensor } from 'onnxruntime-node';
import type { Feeds } from './runner.ts';

/**
 * Makes half floats readable for onnxruntime-node: where Node.js has `Float16Array`, its tensors hold one, but its native part
 * knows them as bits in a `Uint16Array` only, and takes anything else for empty.
 */
export function withReadableHalves(feeds: Feeds): Feeds {
  for (const name in feeds) {
    if (feeds[name]!.type === 'float16') {
      return Object.fromEntries(Object.entries(feeds).map(([key, tensor]) => [key, readable(tensor)]));
    }
  }
  return feeds;
}

function readable(tensor: Tensor): Tensor {
  if (tensor.type !== 'float16' || tensor.data instanceof Uint16Array) return tensor;
  const { buffer, byteOffset, length } = tensor.data as unknown as Uint16Array;
  // The tensor itself stays as its owner made it.
  return Object.create(tensor, { data: { value: new Uint16Array(buffer, byteOffset, length) } });
}
