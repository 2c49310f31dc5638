import type { Origin, SlotFacts } from './left-right.ts';

/** A place in the log: the record at `offset` of a topic's partition. */
export interface LogPlace {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

/** What is known of some weights. */
export interface WeightsFacts {
  readonly version: number;
  /** `Date.now()` when they were made. */
  readonly madeAtMs: number;
  /** The last event of the log that they contain; null where they came from none. */
  readonly position: LogPlace | null;
}

/** Says where weights came from in numbers, which threads can share: topics are numbered as they are met. */
export class Origins {
  readonly #topics: string[] = [];

  of(position: LogPlace | null, madeAtMs = Date.now()): Origin {
    if (!position) return { madeAtMs, topic: -1, partition: 0, offset: 0 };
    const { topic, partition, offset } = position;
    let number = this.#topics.indexOf(topic);
    if (number < 0) number = this.#topics.push(topic) - 1;
    return { madeAtMs, topic: number, partition, offset };
  }

  factsOf({ version, madeAtMs, topic: number, partition, offset }: SlotFacts): WeightsFacts {
    const topic = this.#topics[number];
    return { version, madeAtMs, position: topic === undefined ? null : { topic, partition, offset } };
  }
}
