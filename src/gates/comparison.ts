import type { ConfidenceSequence } from './confidence-sequence.ts';
import { type TestName, tests } from './sequential-tests.ts';

/** How versions are compared. */
export interface Terms {
  readonly test: TestName;
  readonly errorRate: number;
  /** By how much a mean loss may be above another and still count as not worse. */
  readonly margin: number;
  /** What losses are cut at. */
  readonly maxLoss: number;
}

/** What a comparison came to. */
export interface ComparisonFigures {
  readonly examples: number;
  /** Mean losses of the version that is judged, and of the one that it is held against. */
  readonly loss: number;
  readonly againstLoss: number;
  /** The first less the second, and the interval that it is shown to lie in: either end is wrong with the error rate at most. */
  readonly difference: number;
  readonly low: number;
  readonly high: number;
}

/** The losses of two versions on the same examples, one by one, and what they show. What was shown once stays shown. */
export class Comparison {
  readonly #terms: Terms;
  readonly #differences: ConfidenceSequence;
  #loss = 0;
  #againstLoss = 0;
  #notWorse = false;

  constructor(terms: Terms) {
    const { errorRate, maxLoss, margin } = terms;
    this.#terms = terms;
    this.#differences = tests[terms.test]({ errorRate, bound: maxLoss, effect: Math.max(margin, maxLoss / 100) });
  }

  /** Takes what both lost on an example. A loss that is not a number is the largest one. */
  add(loss: number, againstLoss: number): void {
    const [own, others] = [this.#cut(loss), this.#cut(againstLoss)];
    this.#loss += own;
    this.#againstLoss += others;
    this.#differences.add(own - others);
    this.#notWorse ||= this.#differences.isBelow(this.#terms.margin);
  }

  get examples(): number {
    return this.#differences.count;
  }

  /** Whether the version is shown not to be worse than the other by more than the margin. */
  get notWorse(): boolean {
    return this.#notWorse;
  }

  /** Whether it is shown to be worse by more than the margin. */
  get worse(): boolean {
    return this.#differences.isAbove(this.#terms.margin);
  }

  /** Whether it is shown to be better. */
  get better(): boolean {
    return this.#differences.isBelow(0);
  }

  get figures(): ComparisonFigures {
    const { count: examples, mean: difference } = this.#differences;
    const of = (sum: number): number => (examples === 0 ? 0 : sum / examples);
    return {
      examples,
      loss: of(this.#loss),
      againstLoss: of(this.#againstLoss),
      difference,
      ...this.#differences.interval(),
    };
  }

  #cut(loss: number): number {
    const { maxLoss } = this.#terms;
    return loss >= 0 ? Math.min(loss, maxLoss) : Number.isNaN(loss) ? maxLoss : 0;
  }
}
