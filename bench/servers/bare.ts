import Fastify from 'fastify';
import { InferenceSession, Tensor } from 'onnxruntime-node';

interface Body {
  readonly inputs: readonly [{ readonly name: string; readonly shape: readonly number[]; readonly data: readonly number[] }];
}

// What a Node user would write by hand: one run a request, constant weights, no checks.
const session = await InferenceSession.create(process.argv[2]!, { intraOpNumThreads: 1, interOpNumThreads: 1 });
const output = session.outputNames[0]!;
const app = Fastify();
app.post<{ Body: Body }>('/v2/models/m/infer', async ({ body: { inputs } }, reply) => {
  const [{ name, shape, data }] = inputs;
  const results = await session.run({ [name]: new Tensor('float32', Float32Array.from(data), shape) });
  const { dims, data: values } = results[output]!;
  const outputs = [{ name: output, datatype: 'FP32', shape: dims, data: Array.from(values as Float32Array) }];
  reply.type('application/json');
  return JSON.stringify({ model_name: 'm', outputs });
});
console.log(await app.listen({ port: 0, host: '127.0.0.1' }));
