import { recordAt } from '../sources/describe-topic.ts';
import type { Transport } from '../sources/transport.ts';
import type { CheckpointFacts } from './checkpoint-file.ts';
import type { CheckpointStore } from './checkpoint-store.ts';
import { openVersion } from './opened-checkpoint.ts';

/** The share of a topic's retention after which it is told that it may overtake a checkpoint. */
const WARNED_SHARE = 0.5;

/** Warns before a log lets go of records that a recovery from the newest checkpoint would read. */
export class RetentionWatch {
  readonly #store: CheckpointStore;
  readonly #transport: Transport;
  readonly #topic: string;
  #warnedOf = -1;

  constructor(store: CheckpointStore, { transport, topic }: { readonly transport: Transport; readonly topic: string }) {
    this.#store = store;
    this.#transport = transport;
    this.#topic = topic;
  }

  /** Looks at the newest checkpoint; reads it only where it is old. */
  async look(): Promise<void> {
    const retentionMs = await this.#retentionMs();
    const [newest] = await this.#store.list();
    if (!newest || newest.version === this.#warnedOf || Date.now() - newest.savedAtMs < WARNED_SHARE * retentionMs) return;
    const { facts } = await openVersion(this.#store, newest.version);
    await this.check(facts, retentionMs);
  }

  /** Looks how old the first record is that a checkpoint does not contain. */
  async check({ version, positions }: CheckpointFacts, known?: number): Promise<void> {
    const retentionMs = known ?? (await this.#retentionMs());
    if (retentionMs === Number.POSITIVE_INFINITY) return;
    const starts = await this.#transport.startOffsets(this.#topic);
    for (const [topic, partition, next] of positions) {
      if (topic !== this.#topic || partition >= starts.length) continue;
      const isGone = starts[partition]! > next;
      const record = isGone ? null : await recordAt(this.#transport, topic, partition, next);
      const ageMs = record ? Date.now() - record.timestampMs : 0;
      if (!isGone && ageMs < WARNED_SHARE * retentionMs) continue;
      this.#warnedOf = version;
      const place = `${topic}/${partition}@${next}`;
      const found = isGone ? 'which the topic has let go of' : `a record that is ${inHours(ageMs)} old`;
      process.emitWarning(
        `${this.#store.name}: a recovery from its newest version, ${version}, goes on at ${place}, ${found}; the topic keeps records for ` +
          `${inHours(retentionMs)} (retention.ms). Write a checkpoint, or raise the retention: after that time no recovery is possible`,
        { code: 'RXGRAD_RETENTION' },
      );
    }
  }

  /** Infinity where the topic keeps what it has, or does not tell. */
  async #retentionMs(): Promise<number> {
    return (await this.#transport.topicSettings?.(this.#topic))?.retentionMs ?? Number.POSITIVE_INFINITY;
  }
}

function inHours(ms: number): string {
  return ms < 7_200_000 ? `${(ms / 60_000).toFixed(1)} minutes` : `${(ms / 3_600_000).toFixed(1)} hours`;
}
