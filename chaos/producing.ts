import { setTimeout as delay } from 'node:timers/promises';
import type { Position, Transport } from '../src/index.ts';
import { readAll } from '../src/sources/read-all.ts';

/** Of the topic that is appended to. */
export const partitions = 6;
const paceMs = 2;
const mostUnderWay = 100;

/** Appends numbered calls, each with its number to every partition. */
export class Producing {
  readonly rejected = new Map<number, string>();
  calls = 0;
  readonly #transport: Transport;
  readonly #topic: string;
  readonly #told = new Map<number, Position[]>();
  readonly #underWay = new Set<Promise<void>>();

  constructor(transport: Transport, topic: string) {
    this.#transport = transport;
    this.#topic = topic;
  }

  /** What is returned ends it, and resolves when all calls have ended. */
  start(): () => Promise<void> {
    let over = false;
    const producing = (async () => {
      while (!over) {
        if (this.#underWay.size >= mostUnderWay) await Promise.race(this.#underWay);
        this.#call(this.calls++);
        await delay(paceMs);
      }
      await Promise.all(this.#underWay);
    })();
    return () => {
      over = true;
      return producing;
    };
  }

  #call(number: number): void {
    const value = Buffer.from(String(number));
    const records = Array.from({ length: partitions }, (_, partition) => ({ value, partition }));
    const call: Promise<void> = this.#transport
      .produce(this.#topic, records)
      .then(
        (positions) => void this.#told.set(number, positions),
        (error: Error) => void this.rejected.set(number, error.message),
      )
      .finally(() => this.#underWay.delete(call));
    this.#underWay.add(call);
  }

  /** What was told and is not so. */
  async wrongs(): Promise<string[]> {
    const held = Array.from({ length: partitions }, () => new Map<number, number>());
    const problems: string[] = [];
    const last = new Array<number>(partitions).fill(-1);
    await readAll(this.#transport, this.#topic, {}, ({ offset, value }, partition) => {
      const number = Number(Buffer.from(value!).toString());
      held[partition]!.set(offset, number);
      if (number <= last[partition]!) problems.push(`partition ${partition}: call ${number} stands behind ${last[partition]}`);
      last[partition] = number;
    });
    for (const [number, positions] of this.#told) {
      for (let partition = 0; partition < partitions; partition++) {
        const found = held[partition]!.get(positions[partition]?.offset ?? -1);
        if (found !== number)
          problems.push(`call ${number} was acknowledged, and is not where it was said in partition ${partition}`);
      }
    }
    return problems;
  }
}
