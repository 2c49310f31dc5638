import type { NewRecord, Transport } from '../src/index.ts';
import type { ElementType } from '../src/payload.ts';
import { encodedGradients } from './encoded-gradients.ts';

/** A topic that holds so many messages, of gradients for so many parameters. */
export interface FilledTopic {
  readonly topic: string;
  readonly messages: number;
  readonly parameters: number;
  /** Of a message's value. */
  readonly bytes: number;
}

/** Messages that together take long enough to be measured, and their tensors' size as float32. */
export const topicSizes = [
  { kilobytes: 4, messages: 40_000 },
  { kilobytes: 64, messages: 6000 },
  { kilobytes: 400, messages: 1000 },
] as const;

export interface FillOptions {
  readonly kilobytes: number;
  readonly messages: number;
  /** Default `'F32'`. */
  readonly dtype?: ElementType;
}

const appendBytes = 4 * 2 ** 20;

/** Makes a topic of the same gradients again and again, by one worker whose numbers rise. */
export async function fillTopic(transport: Transport, { kilobytes, messages, dtype }: FillOptions): Promise<FilledTopic> {
  const topic = `bench-${kilobytes}-${dtype ?? 'F32'}-${Date.now()}`;
  const parameters = kilobytes * 256;
  await transport.createTopic(topic);
  const first = encodedGradients(parameters, 0, dtype);
  const bytes = first.value!.byteLength;
  const perAppend = Math.max(1, Math.floor(appendBytes / bytes));
  for (let from = 0; from < messages; from += perAppend) {
    const records = Array.from({ length: Math.min(perAppend, messages - from) }, (_, i): NewRecord => {
      return { ...first, headers: { ...first.headers, ce_id: String(from + i) } };
    });
    await transport.produce(topic, records);
  }
  return { topic, messages, parameters, bytes };
}
