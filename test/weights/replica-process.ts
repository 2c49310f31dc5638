// A process of its own: follows a model's weights on Kafka, and prints for each version a hash of the weights, or, with a model
// file, what it predicts with them.
import { createHash } from 'node:crypto';
import { HotSwapSession, hotSwap, weightsFrom } from '../../src/index.ts';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { example, feedsOf } from '../inference/onnx/example-models.ts';

const [brokers, topic, model, name] = process.argv.slice(2) as [string, string, string, string | undefined];
const transport = kafkaTransport({ brokers: brokers.split(',') });
const rejections = { next: ({ error }: { error: Error }) => print({ rejection: error.message }) };

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

if (name === undefined) {
  weightsFrom(transport, { topic, model, rejections }).subscribe({
    next({ params, version }) {
      const hash = createHash('sha256');
      for (const { data } of params) hash.update(Uint8Array.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
      print({ version, hash: hash.digest('hex') });
    },
    error: (error: Error) => print({ error: error.message }),
  });
} else {
  const session = await HotSwapSession.load(example(name).path);
  weightsFrom(transport, { topic, model, into: session.params, rejections })
    .pipe(hotSwap(session))
    .subscribe(async () => {
      const { outputs, version } = await session.predict(feedsOf(example(name)));
      print({ version, output: Array.from(outputs[session.outputNames[0]!]!.data as Float32Array) });
    });
}
