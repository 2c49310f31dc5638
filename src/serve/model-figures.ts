/** What was asked of a model since the server began. */
export class ModelFigures {
  /** Predictions that were answered, and the milliseconds that they took in all. */
  answered = 0;
  answeredMs = 0;
  failed = 0;
  failedMs = 0;
  /** Milliseconds since 1970 (UTC) of the last answer; 0 where there was none. */
  lastAtMs = 0;

  count(isAnswered: boolean, durationMs: number): void {
    if (isAnswered) {
      this.answered += 1;
      this.answeredMs += durationMs;
      this.lastAtMs = Date.now();
    } else {
      this.failed += 1;
      this.failedMs += durationMs;
    }
  }
}
