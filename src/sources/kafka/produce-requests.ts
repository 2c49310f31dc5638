import { createRequire } from 'node:module';
import type { Message } from 'kafkajs';
import { answerMs } from './answer-limits.ts';
import type { Cluster, Question } from './kafka-cluster.ts';

interface Encoder {
  writeString(text: string | null): Encoder;
  writeInt16(value: number): Encoder;
  writeInt32(value: number): Encoder;
  writeArray(elements: readonly Encoder[]): Encoder;
  writeEncoder(encoder: Encoder): Encoder;
  size(): number;
}

interface Decoder {
  readInt16(): number;
  readInt32(): number;
  readInt64(): { toString(): string };
  readString(): string;
  readArray<T>(read: (decoder: Decoder) => T): T[];
}

interface RecordBatchFields {
  readonly records: readonly Encoder[];
  readonly firstTimestamp: number;
  readonly maxTimestamp: number;
  readonly lastOffsetDelta: number;
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly firstSequence: number;
}

const load = createRequire(import.meta.url);
const EncoderClass: new () => Encoder = load('kafkajs/src/protocol/encoder');
const DecoderClass: new (bytes: Buffer) => Decoder = load('kafkajs/src/protocol/decoder');
const encodedRecord: (record: Message & { readonly offsetDelta: number }) => Encoder = load(
  'kafkajs/src/protocol/recordBatch/record/v0',
);
const { RecordBatch }: { RecordBatch(fields: RecordBatchFields): Promise<Encoder> } = load('kafkajs/src/protocol/recordBatch/v0');
const { createErrorFromCode }: { createErrorFromCode(code: number): Error } = load('kafkajs/src/protocol/error');

// All brokers from 0.11 to 4 speak it; what later versions add is not needed here.
const produce = { apiKey: 0, apiVersion: 3, apiName: 'Produce' } as const;
const acksOfAllInSync = -1;
/** How long a leader waits for its replicas before it says that it has not heard of them all. */
const replicasTimeoutMs = 10_000;
const mostRequestBytes = 8_000_000;
// It is asked for also where there are no transactions.
const noTransactionMs = 60_000;
const noLeader = '-1';
const leaderNotAvailable = 5;

/** Whose records are numbered by this, within a partition: a broker appends a number once. */
export interface ProducerIdentity {
  readonly producerId: string;
  readonly producerEpoch: number;
}

/** Records of one partition as a broker takes them: the same bytes however often they are sent. */
export interface ProducedBatch {
  readonly partition: number;
  readonly encoded: Encoder;
}

interface Answer {
  readonly partition: number;
  readonly errorCode: number;
  readonly baseOffset: number;
}

interface Outgoing {
  readonly batch: ProducedBatch;
  readonly resolve: (baseOffset: number) => void;
  readonly reject: (error: unknown) => void;
}

/** Numbers records from `firstSequence` on, and encodes them. */
export async function producedBatch(
  partition: number,
  messages: readonly Message[],
  identity: ProducerIdentity,
  firstSequence: number,
): Promise<ProducedBatch> {
  const now = Date.now();
  const records = messages.map((message, offsetDelta) => encodedRecord({ ...message, offsetDelta }));
  const lastOffsetDelta = records.length - 1;
  const times = { firstTimestamp: now, maxTimestamp: now };
  return { partition, encoded: await RecordBatch({ records, ...times, lastOffsetDelta, ...identity, firstSequence }) };
}

/**
 * Sends batches of one topic to the leaders of their partitions, one request at a time to each; batches that wait for the same leader go
 * together. Each batch is answered for itself: kafkajs 2.2.4 fails all of a request with one of its partitions, and does not ask a leader
 * again that has answered for others.
 */
export class ProduceRequests {
  readonly #topic: string;
  readonly #cluster: Cluster;
  readonly #waiting = new Map<string, Outgoing[]>();

  constructor(topic: string, cluster: Cluster) {
    this.#topic = topic;
    this.#cluster = cluster;
  }

  /** A new identity, whose sequence in the partition begins at 0. */
  async newProducer(partition: number): Promise<ProducerIdentity> {
    const broker = await this.#cluster.findBroker({ nodeId: await this.#leaderId(partition) });
    const { producerId, producerEpoch } = await broker.initProducerId({ transactionTimeout: noTransactionMs });
    return { producerId, producerEpoch };
  }

  /** Resolves to the offset that the first record of the batch has got. One attempt: the same batch may be sent again. */
  async send(batch: ProducedBatch): Promise<number> {
    const nodeId = await this.#leaderId(batch.partition);
    return new Promise((resolve, reject) => {
      const outgoing = { batch, resolve, reject };
      const waiting = this.#waiting.get(nodeId);
      if (waiting) {
        waiting.push(outgoing);
        return;
      }
      this.#waiting.set(nodeId, [outgoing]);
      void this.#sendAll(nodeId);
    });
  }

  /** Asks for the leaders anew, of a cluster that is connected again if need be. */
  async refresh(): Promise<void> {
    if (!this.#cluster.isConnected()) await this.#cluster.connect();
    await this.#cluster.refreshMetadata();
  }

  async #leaderId(partition: number): Promise<string> {
    await this.#cluster.addTargetTopic(this.#topic);
    await this.#cluster.refreshMetadataIfNecessary();
    const [nodeId] = Object.keys(this.#cluster.findLeaderForPartitions(this.#topic, [partition]));
    if (nodeId === undefined || nodeId === noLeader) throw createErrorFromCode(leaderNotAvailable);
    return nodeId;
  }

  async #sendAll(nodeId: string): Promise<void> {
    // Batches of the same turn of the event loop go together.
    await Promise.resolve();
    const waiting = this.#waiting.get(nodeId)!;
    while (waiting.length > 0) {
      const request = waiting.splice(0, requestLength(waiting));
      try {
        const answers = await this.#ask(nodeId, request);
        for (const outgoing of request) settle(outgoing, answers);
      } catch (error) {
        // Those that wait may have another leader by now.
        for (const { reject } of [...request, ...waiting.splice(0)]) reject(error);
      }
    }
    this.#waiting.delete(nodeId);
  }

  async #ask(nodeId: string, request: readonly Outgoing[]): Promise<readonly Answer[]> {
    const broker = await this.#cluster.findBroker({ nodeId });
    return broker.connectionPool.send(
      requestOf(
        this.#topic,
        request.map(({ batch }) => batch),
      ),
    );
  }
}

function settle({ batch, resolve, reject }: Outgoing, answers: readonly Answer[]): void {
  const answer = answers.find(({ partition }) => partition === batch.partition);
  if (!answer) reject(new Error(`the broker's answer says nothing of partition ${batch.partition}`));
  else if (answer.errorCode !== 0) reject(createErrorFromCode(answer.errorCode));
  else if (!(answer.baseOffset >= 0)) reject(new Error(`the broker tells no offset of partition ${batch.partition}`));
  else resolve(answer.baseOffset);
}

function requestOf(topic: string, batches: readonly ProducedBatch[]): Question<readonly Answer[]> {
  const request = {
    ...produce,
    encode: async () => {
      const partitions = batches.map(({ partition, encoded }) =>
        new EncoderClass().writeInt32(partition).writeInt32(encoded.size()).writeEncoder(encoded),
      );
      return new EncoderClass()
        .writeString(null)
        .writeInt16(acksOfAllInSync)
        .writeInt32(replicasTimeoutMs)
        .writeArray([new EncoderClass().writeString(topic).writeArray(partitions)]);
    },
  };
  return {
    request,
    requestTimeout: replicasTimeoutMs + answerMs,
    response: { decode: async (bytes) => answersIn(new DecoderClass(bytes)), parse: async (answers) => answers },
  };
}

function answersIn(response: Decoder): readonly Answer[] {
  const topics = response.readArray((topic) => {
    topic.readString();
    return topic.readArray((of): Answer => {
      const answer = { partition: of.readInt32(), errorCode: of.readInt16(), baseOffset: Number(of.readInt64().toString()) };
      // The time of its appending.
      of.readInt64();
      return answer;
    });
  });
  return topics.flat();
}

/** How many batches from the front go into one request, at least one. */
function requestLength(waiting: readonly Outgoing[]): number {
  let bytes = 0;
  for (const [i, { batch }] of waiting.entries()) {
    bytes += batch.encoded.size();
    if (i > 0 && bytes > mostRequestBytes) return i;
  }
  return waiting.length;
}
