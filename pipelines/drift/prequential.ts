const AFTER_DRIFT = 500;

/** How well one concept was predicted, each event before it was learnt from. */
export interface ConceptScore {
  readonly events: number;
  readonly correct: number;
  /** Of the first {@link AFTER_DRIFT} events, when the model still knew the concept before. */
  readonly firstEvents: number;
  readonly firstCorrect: number;
}

/** Keeps prequential accuracy: test, then train. Gama, Sebastião and Rodrigues, "On evaluating stream learning algorithms" (2013). */
export class Prequential {
  readonly #scores: { events: number; correct: number; firstEvents: number; firstCorrect: number }[] = [];

  add(concept: number, correct: boolean): void {
    this.#scores[concept] ??= { events: 0, correct: 0, firstEvents: 0, firstCorrect: 0 };
    const score = this.#scores[concept];
    score.events += 1;
    score.correct += Number(correct);
    if (score.events > AFTER_DRIFT) return;
    score.firstEvents += 1;
    score.firstCorrect += Number(correct);
  }

  get concepts(): readonly ConceptScore[] {
    return this.#scores;
  }

  get events(): number {
    return this.#scores.reduce((sum, { events }) => sum + events, 0);
  }

  /** Share of all events that were predicted right. */
  get accuracy(): number {
    return this.#scores.reduce((sum, { correct }) => sum + correct, 0) / this.events;
  }
}
