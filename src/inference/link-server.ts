import type { Slot } from '../params/left-right.ts';
import { beginWork, endWork } from './at-work.ts';
import type { Feeds, RunResult } from './runner.ts';
import { ANSWERED, answerNumbers, COUNTS, LANES, REQUESTED, type SharedLink, slotOf, TensorLane } from './thread-link.ts';

/** The end of a link at which models run. */
export class LinkServer {
  readonly #words: Int32Array;
  readonly #requests: readonly TensorLane[];
  readonly #answers: readonly TensorLane[];
  readonly #inputNames: readonly string[];

  constructor(link: SharedLink, inputNames: readonly string[]) {
    this.#words = link.words;
    this.#requests = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 0, lane));
    this.#answers = Array.from({ length: LANES }, (_, lane) => new TensorLane(link, 1, lane));
    this.#inputNames = inputNames;
  }

  /** Answers requests in their order until there will be no more; the thread is at work then, still. In between the thread is blocked, not idle: a wake takes less so. */
  async serve(outputNames: readonly string[], run: (feeds: Feeds, slot: Slot | null) => Promise<RunResult>): Promise<void> {
    const words = this.#words;
    for (let answered = Atomics.load(words, ANSWERED); ; ) {
      beginWork(words);
      const requested = Atomics.load(words, REQUESTED);
      if (requested === answered) {
        endWork(words);
        Atomics.wait(words, REQUESTED, requested);
      } else if (requested === answered + COUNTS) {
        return;
      } else {
        await this.#answer(answered % LANES, outputNames, run);
        answered = (answered + 1) % COUNTS;
        Atomics.store(words, ANSWERED, answered);
        Atomics.notify(words, ANSWERED);
      }
    }
  }

  async #answer(
    lane: number,
    outputNames: readonly string[],
    run: (feeds: Feeds, slot: Slot | null) => Promise<RunResult>,
  ): Promise<void> {
    const answer = this.#answers[lane]!;
    const request = this.#requests[lane]!.read(this.#inputNames);
    if (typeof request === 'string') return answer.fail(request);
    try {
      const { outputs, weights, durationMs } = await run(request.tensors, slotOf(request.numbers));
      const tensors = outputNames.map((name) => outputs[name]!);
      answer.write(answerNumbers(weights, durationMs), tensors);
    } catch (error) {
      answer.fail((error as Error).message);
    }
  }
}
