import type { Slot } from '../params/left-right.ts';
import { wokenAt } from '../threads.ts';
import type { Feeds, RunResult } from './runner.ts';
import { ownTensor } from './tensor-frame.ts';
import { ANSWERED, answerOf, COUNTS, LANES, REQUESTED, requestNumbers, type SharedLink, TensorLane } from './thread-link.ts';

interface Waiting {
  readonly resolve: (result: RunResult) => void;
  readonly reject: (error: Error) => void;
}

/** Keeps the process alive while something is waited for: a worker thread does. */
interface Keeper {
  ref(): void;
  unref(): void;
}

/** The end of a link from which models are asked. */
export class LinkClient {
  /** The outputs that answers carry, in their order: to be told before the first run. */
  outputNames: readonly string[] = [];
  readonly #link: SharedLink;
  readonly #keeper: Keeper;
  readonly #inputNames: readonly string[];
  readonly #requests: readonly TensorLane[];
  readonly #answers: readonly TensorLane[];
  /** In the order of their requests. */
  readonly #waiting: Waiting[] = [];
  #requested = 0;
  #answered = 0;
  #closing = false;

  constructor(link: SharedLink, inputNames: readonly string[], keeper: Keeper) {
    this.#link = link;
    this.#keeper = keeper;
    this.#inputNames = inputNames;
    this.#requests = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 0, lane));
    this.#answers = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 1, lane));
  }

  /** How many runs are on their way. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes a {@link close} back, when the other end has gone and is to come again. */
  reopen(): void {
    Atomics.and(this.#link.words, REQUESTED, COUNTS - 1);
    this.#closing = false;
  }

  /** Not to be called while {@link LANES} runs are on their way. */
  run(feeds: Feeds, slot: Slot | null): Promise<RunResult> {
    const lane = this.#requests[this.#requested % LANES]!;
    const tensors = this.#inputNames.map((name) => feeds[name]!);
    return new Promise((resolve, reject) => {
      lane.write(requestNumbers(slot), tensors);
      this.#waiting.push({ resolve, reject });
      this.#requested = (this.#requested + 1) % COUNTS;
      const { words } = this.#link;
      Atomics.store(words, REQUESTED, this.#requested);
      Atomics.notify(words, REQUESTED);
      if (this.#waiting.length === 1) this.#listen();
    });
  }

  /** Says that there will be no more requests: the other end goes when it has answered those on their way. */
  close(): void {
    this.#closing = true;
    this.#keeper.ref();
    const { words } = this.#link;
    Atomics.or(words, REQUESTED, COUNTS);
    Atomics.notify(words, REQUESTED);
  }

  /** Fails what is on its way still. The other end is gone. */
  fail(error: Error): void {
    this.#takeAnswers();
    this.#link.port.close();
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    // Whoever listens finds that nothing is waited for.
    Atomics.notify(this.#link.words, ANSWERED);
  }

  async #listen(): Promise<void> {
    const { words } = this.#link;
    // A wait alone keeps no process alive.
    this.#keeper.ref();
    while (this.#waiting.length > 0) {
      await wokenAt(words, ANSWERED, this.#answered);
      this.#takeAnswers();
    }
    if (!this.#closing) this.#keeper.unref();
  }

  #takeAnswers(): void {
    while (this.#waiting.length > 0 && this.#answered !== Atomics.load(this.#link.words, ANSWERED)) this.#take();
  }

  #take(): void {
    const answer = this.#answers[this.#answered % LANES]!.read(this.outputNames);
    this.#answered = (this.#answered + 1) % COUNTS;
    const { resolve, reject } = this.#waiting.shift()!;
    if (typeof answer === 'string') {
      reject(new Error(answer));
    } else {
      const outputs = Object.fromEntries(this.outputNames.map((name) => [name, ownTensor(answer.tensors[name]!)]));
      resolve({ outputs, ...answerOf(answer.numbers) });
    }
  }
}
