import type { Delivery } from './events.ts';

/** The offset of the next record by topic and partition, as plain data. */
export type Positions = [topic: string, partition: number, next: number][];

interface Next {
  readonly topic: string;
  readonly partition: number;
  next: number;
}

/** Keeps how far the log is contained in a state: for each partition, the offset of the first record that is not. */
export class Reached {
  readonly #partitions: Next[] = [];
  // Most records follow one of the same partition.
  #last: Next | null = null;

  /** Notes an event that the state contains, and with it all before it in its partition. */
  note(delivery: Delivery | null): void {
    if (!delivery) return;
    if (!delivery.covers) this.#raise(delivery.position.topic, delivery.position.partition, delivery.position.offset + 1);
    else for (const { position } of delivery.covers) this.#raise(position.topic, position.partition, position.offset + 1);
  }

  state(): Positions {
    return this.#partitions.map(({ topic, partition, next }) => [topic, partition, next]);
  }

  restore(positions: Positions): void {
    for (const [topic, partition, next] of positions) this.#raise(topic, partition, next);
  }

  #raise(topic: string, partition: number, next: number): void {
    if (this.#last?.partition !== partition || this.#last.topic !== topic) this.#last = this.#of(topic, partition);
    if (next > this.#last.next) this.#last.next = next;
  }

  #of(topic: string, partition: number): Next {
    const known = this.#partitions.find((one) => one.partition === partition && one.topic === topic);
    if (known) return known;
    const added = { topic, partition, next: 0 };
    this.#partitions.push(added);
    return added;
  }
}
