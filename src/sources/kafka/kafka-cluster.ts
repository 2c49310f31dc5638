import type { Kafka, KafkaMessage } from 'kafkajs';

/** A kafkajs broker, as far as rxgrad asks one by itself. */
export interface Broker {
  readonly versions: Readonly<Record<number, { readonly maxVersion: number }>>;
  readonly connectionPool: { send<T>(question: Question<T>): Promise<T> };
  fetch(request: FetchRequest): Promise<FetchAnswer>;
  listOffsets(request: ListOffsetsRequest): Promise<ListOffsetsAnswer>;
  initProducerId(request: { readonly transactionTimeout: number }): Promise<{
    readonly producerId: string;
    readonly producerEpoch: number;
  }>;
}

/** A request of our own over a connection of kafkajs. */
export interface Question<T> {
  readonly request: {
    readonly apiKey: number;
    readonly apiVersion: number;
    readonly apiName: string;
    encode(): Promise<unknown>;
  };
  readonly response: { decode(bytes: Buffer): Promise<T>; parse(answer: T): Promise<T> };
  /** How long the answer may take, in milliseconds, where that is more than usual (see `answerMs`). */
  readonly requestTimeout?: number;
}

export interface FetchRequest {
  readonly topics: readonly {
    readonly topic: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly fetchOffset: string | number;
      readonly maxBytes: number;
    }[];
  }[];
  readonly maxWaitTime?: number;
  readonly minBytes?: number;
  readonly maxBytes?: number;
  readonly isolationLevel?: number;
}

export interface FetchAnswer {
  readonly responses: readonly {
    readonly topicName: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly messages: readonly (KafkaMessage & { readonly isControlRecord?: boolean })[];
    }[];
  }[];
}

export interface ListOffsetsRequest {
  readonly topics: readonly {
    readonly topic: string;
    /** −1 asks for the end, −2 for the beginning. */
    readonly partitions: readonly { readonly partition: number; readonly timestamp: -1 | -2 }[];
  }[];
}

export interface ListOffsetsAnswer {
  readonly responses: readonly { readonly partitions: readonly { readonly partition: number; readonly offset: string }[] }[];
}

export interface Cluster {
  /** What it asks for together: one that is gone fails the others. */
  readonly targetTopics: Set<string>;
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  isConnected(): boolean;
  addTargetTopic(topic: string): Promise<void>;
  refreshMetadata(): Promise<void>;
  refreshMetadataIfNecessary(): Promise<void>;
  findTopicPartitionMetadata(topic: string): readonly { readonly partitionId: number }[];
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Readonly<Record<string, readonly number[]>>;
  findBroker(question: { readonly nodeId: string | number }): Promise<Broker>;
  findGroupCoordinator(question: object): Promise<unknown>;
  removeBroker(address: { readonly host?: string; readonly port?: number }): void;
}

type CreateCluster = (options: object) => Cluster;

/** Shows a client's clusters as they are made, and lets what they know of topics grow no older than that: kafkajs 2.2.4 has no way to either. */
export function onCluster(kafka: Kafka, metadataMaxAge: number, take: (cluster: Cluster) => void): Kafka {
  const internals = kafka as unknown as Record<symbol, CreateCluster>;
  const symbol = createCluster(kafka);
  const create = internals[symbol]!;
  internals[symbol] = (options) => {
    const cluster = create({ ...options, metadataMaxAge });
    take(cluster);
    return cluster;
  };
  return kafka;
}

/** A cluster of a client that belongs to no producer, consumer or admin. It is not connected yet. */
export function newCluster(kafka: Kafka): Cluster {
  return (kafka as unknown as Record<symbol, CreateCluster>)[createCluster(kafka)]!({ allowAutoTopicCreation: false });
}

function createCluster(kafka: Kafka): symbol {
  const symbol = Object.getOwnPropertySymbols(kafka).find(({ description }) => description === 'private:Kafka:createCluster');
  if (!symbol) throw new Error('expected kafkajs 2.2.4');
  return symbol;
}
