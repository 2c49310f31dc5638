import { Comparison, type ComparisonFigures, type Terms } from './comparison.ts';

/** What came of a trial. */
export type Verdict = 'promoted' | 'rejected' | 'undecided' | 'confirmed' | 'rolledBack';

export interface TrialTerms extends Terms {
  /** Examples after which a comparison ends without a decision. */
  readonly maxExamples: number;
}

/** A decision, and the comparison that it rests on. */
export interface Decision extends ComparisonFigures {
  readonly decision: Verdict;
  /** The version that was judged, and the one that it was held against. */
  readonly version: number;
  readonly against: number;
}

/** What versions lost on one example; null of who is not there. */
export interface Losses {
  readonly live: number;
  readonly candidate: number | null;
  readonly fallback: number | null;
}

/**
 * Who is live, who wants to be, and who was. It takes losses and comes to decisions, one example after the other.
 *
 * A candidate is promoted once it is shown not to be worse than the live version, nor than the fallback, and rejected once it is
 * shown to be worse than either. The version that was live becomes the fallback, unless there is one: that stays until the live
 * version is shown to be better than it (confirmed), or worse by more than the margin (rolled back). So steps down that are
 * each within the margin do not add up.
 */
export class Trials {
  readonly #terms: TrialTerms;
  #live: number;
  #candidate: number | null = null;
  #fallback: number | null = null;
  #againstLive: Comparison;
  #againstFallback: Comparison;
  #watch: Comparison;

  constructor(terms: TrialTerms, live: number) {
    this.#terms = terms;
    this.#live = live;
    this.#againstLive = new Comparison(terms);
    this.#againstFallback = new Comparison(terms);
    this.#watch = new Comparison(terms);
  }

  get live(): number {
    return this.#live;
  }

  get candidate(): number | null {
    return this.#candidate;
  }

  get fallback(): number | null {
    return this.#fallback;
  }

  /** Begins to try a version. */
  try(candidate: number): void {
    this.#candidate = candidate;
    this.#againstLive = new Comparison(this.#terms);
    this.#againstFallback = new Comparison(this.#terms);
  }

  /** Takes an example's losses, and decides if they suffice. */
  add({ live, candidate, fallback }: Losses): Decision | null {
    if (this.#fallback !== null && fallback !== null) {
      this.#watch.add(live, fallback);
      const decision = this.#judgeLive(this.#fallback);
      if (decision) return decision;
    }
    if (this.#candidate === null || candidate === null) return null;
    this.#againstLive.add(candidate, live);
    if (fallback !== null) this.#againstFallback.add(candidate, fallback);
    return this.#judge(this.#candidate);
  }

  /** Ends a trial that gets no more examples. */
  giveUp(): Decision | null {
    if (this.#candidate === null) return null;
    const decision = this.#decided('undecided', this.#candidate, this.#live, this.#againstLive);
    this.#candidate = null;
    return decision;
  }

  #judgeLive(fallback: number): Decision | null {
    const live = this.#live;
    if (this.#watch.worse) {
      const decision = this.#decided('rolledBack', live, fallback, this.#watch);
      this.#live = fallback;
      this.#fallback = null;
      this.#candidate = null;
      return decision;
    }
    if (this.#watch.better) {
      const decision = this.#decided('confirmed', live, fallback, this.#watch);
      this.#fallback = null;
      return decision;
    }
    // So that a good past does not hide what has changed since.
    if (this.#watch.examples >= this.#terms.maxExamples) this.#watch = new Comparison(this.#terms);
    return null;
  }

  #judge(candidate: number): Decision | null {
    const [againstLive, againstFallback, live, fallback] = [this.#againstLive, this.#againstFallback, this.#live, this.#fallback];
    if (againstLive.worse) return this.#dropped('rejected', candidate, live, againstLive);
    if (fallback !== null && againstFallback.worse) return this.#dropped('rejected', candidate, fallback, againstFallback);
    if (againstLive.notWorse && (fallback === null || againstFallback.notWorse)) {
      const decision = this.#decided('promoted', candidate, live, againstLive);
      this.#fallback ??= live;
      this.#live = candidate;
      this.#candidate = null;
      this.#watch = new Comparison(this.#terms);
      return decision;
    }
    if (againstLive.examples < this.#terms.maxExamples) return null;
    return againstLive.notWorse && fallback !== null
      ? this.#dropped('undecided', candidate, fallback, againstFallback)
      : this.#dropped('undecided', candidate, live, againstLive);
  }

  #dropped(decision: Verdict, candidate: number, against: number, comparison: Comparison): Decision {
    this.#candidate = null;
    return this.#decided(decision, candidate, against, comparison);
  }

  #decided(decision: Verdict, version: number, against: number, comparison: Comparison): Decision {
    return { decision, version, against, ...comparison.figures };
  }
}
