import { Tensor } from 'onnxruntime-node';
import { RxgradError } from '../errors.ts';
import type { ModelInput } from './onnx/model.ts';
import type { Feeds } from './runner.ts';

// Of one half in binary16.
const HALF = 0x3800;

const integers = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
};

/**
 * Makes a request of a model's own input signature: `rows` where an input's first dimension is open, 1 where another is. Floats
 * are `float` everywhere, numbers that may be places in a table 0, texts empty.
 */
export function madeUpRequest(model: string, inputs: readonly ModelInput[], rows: number, float = 0.5): Feeds {
  return Object.fromEntries(inputs.map((input) => [input.name, madeUpTensor(model, input, rows, float)]));
}

function madeUpTensor(model: string, { name, type, dims }: ModelInput, rows: number, float: number): Tensor {
  if (!dims) {
    const problem = `no request can be made up for input "${name}", whose rank the model does not say`;
    throw new RxgradError('unsupportedModel', { model, problem, advice: 'Give warmUp requests of your own' });
  }
  const sizes = dims.map((dim, i) => (typeof dim === 'number' ? dim : i === 0 ? rows : 1));
  const length = sizes.reduce((product, size) => product * size, 1);
  switch (type) {
    case 'float32':
      return new Tensor(type, new Float32Array(length).fill(float), sizes);
    case 'float64':
      return new Tensor(type, new Float64Array(length).fill(float), sizes);
    case 'float16':
      return new Tensor(type, new Uint16Array(length).fill(HALF), sizes);
    case 'string':
      return new Tensor(type, new Array<string>(length).fill(''), sizes);
    case 'int64':
      return new Tensor(type, new BigInt64Array(length), sizes);
    case 'uint64':
      return new Tensor(type, new BigUint64Array(length), sizes);
    case 'bool':
      return new Tensor(type, new Uint8Array(length), sizes);
    default:
      return new Tensor(type as 'int32', new integers[type as keyof typeof integers](length) as Int32Array, sizes);
  }
}
