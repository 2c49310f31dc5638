import MersenneTwister from 'mersenne-twister';
import type { Subscriber } from 'rxjs';
import { isRxgradError, RxgradError } from '../errors.ts';
import { channels } from '../observe/channels.ts';
import { WeightsUpdate } from '../optimizers/weights-update.ts';
import type { Parameters } from '../params/parameters.ts';
import type { GateDecision, LabelledExamples, ParsedGateOptions } from './gate-options.ts';
import { Roles } from './roles.ts';
import { Scorer } from './scorer.ts';
import { type Decision, Trials } from './trials.ts';
import { type Arrived, inRandomOrder, WaitingExamples } from './waiting-examples.ts';

/** One subscription's gate: it freezes candidates, has versions scored, and does what the trials decide. */
export class RunningGate<L> {
  readonly #options: ParsedGateOptions<L>;
  readonly #out: Subscriber<WeightsUpdate>;
  readonly #params: Parameters;
  readonly #roles: Roles;
  readonly #scorer: Scorer<L>;
  readonly #waiting: WaitingExamples<L>;
  readonly #random: MersenneTwister;
  #trials: Trials | null = null;
  #newest: WeightsUpdate | null = null;
  /** What made the candidate, and which examples came later than it. */
  #tried: { readonly update: WeightsUpdate; readonly from: number } | null = null;
  #triedMs = Number.NEGATIVE_INFINITY;
  #left: Iterator<LabelledExamples<L>, void> = [].values();
  #freezing = false;
  #busy = false;
  #woken = false;
  #ended = false;
  #labelsEnded = false;
  #closed = false;
  #failures = 0;
  #failuresInARow = 0;
  #warned = false;

  constructor(options: ParsedGateOptions<L>, out: Subscriber<WeightsUpdate>) {
    this.#options = options;
    this.#out = out;
    this.#params = options.session.params;
    this.#roles = new Roles(this.#params);
    this.#scorer = new Scorer(options);
    this.#waiting = new WaitingExamples(options.maxWaiting);
    this.#random = new MersenneTwister(options.seed);
    this.#run(() => this.#begin());
  }

  /** Takes new weights, between two steps. */
  see(update: WeightsUpdate): void {
    const own = (update.average ?? update.params) === this.#params;
    if (!own) {
      const expected = 'the one whose parameters the scan steps, or averages into';
      this.#out.error(new RxgradError('invalidOption', { option: 'gate: session', expected, got: 'one with others' }));
      return;
    }
    this.#newest = update;
    if (this.#isDue(update)) this.#freeze(update);
    else if (this.#isChangedByOthers) this.#wake();
  }

  take(examples: LabelledExamples<L>): void {
    this.#waiting.add(examples);
    this.#wake();
  }

  /** Is told that no more updates come: what waits is still scored. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  endLabels(): void {
    this.#labelsEnded = true;
    this.#wake();
  }

  close(): void {
    this.#closed = true;
  }

  #wake(): void {
    this.#woken = true;
    if (!this.#busy) this.#run(async () => {});
  }

  /** Does something, and then what there is to do. */
  #run(first: () => Promise<void>): void {
    this.#busy = true;
    const run = async (): Promise<void> => {
      await first();
      do {
        this.#woken = false;
        while (!this.#closed && (await this.#next()));
      } while (this.#woken && !this.#closed);
      this.#busy = false;
    };
    run().catch((error: unknown) => this.#out.error(error));
  }

  /** Does the next thing there is to do. False where there is none, until something comes. */
  async #next(): Promise<boolean> {
    if (this.#isChangedByOthers) await this.#begin();
    const trials = this.#trials!;
    const newest = this.#newest;
    // Where a step is under way or waits, another update comes.
    if (newest?.params.settled && this.#isDue(newest)) this.#freeze(newest);
    const examples = this.#nextExamples(trials);
    if (examples) {
      await this.#score(examples, trials);
      return true;
    }
    if (trials.candidate !== null && (this.#options.holdOut || this.#ended || this.#labelsEnded)) {
      this.#decided(trials.giveUp(), trials);
      return true;
    }
    if (this.#ended && !this.#freezing) this.#out.complete();
    return false;
  }

  #nextExamples(trials: Trials): Arrived<L> | undefined {
    if (trials.candidate === null && (trials.fallback === null || this.#options.holdOut)) {
      this.#waiting.clear();
      return undefined;
    }
    if (!this.#options.holdOut) return this.#waiting.take();
    const { done, value } = this.#left.next();
    return done ? undefined : { examples: value, arrival: Number.POSITIVE_INFINITY };
  }

  /** Takes what is live as it is. */
  async #begin(): Promise<void> {
    const live = await this.#roles.begin();
    if (!this.#freezing) this.#roles.drop();
    this.#trials = new Trials(this.#options, live);
  }

  #isDue({ version }: WeightsUpdate): boolean {
    const params = this.#params;
    const { every } = this.#options;
    const trials = this.#trials;
    if (!trials || trials.candidate !== null || this.#freezing || this.#labelsEnded) return false;
    if (this.#ended && !this.#options.holdOut) return false;
    if (params.pinned || params.liveVersion !== trials.live || !params.finite) return false;
    const last = this.#tried?.update.version ?? trials.live;
    return version >= last + every.versions && performance.now() - this.#triedMs >= every.ms;
  }

  /** Begins to try the newest weights. */
  #freeze(update: WeightsUpdate): void {
    this.#tried = { update, from: this.#waiting.arrivals };
    this.#triedMs = performance.now();
    this.#freezing = true;
    const { kept } = this.#params;
    kept.keepLatest({ labels: ['candidate'] }).then(
      ({ version }) => {
        this.#freezing = false;
        if (this.#closed) return;
        this.#trials!.try(version);
        if (this.#options.holdOut) this.#left = inRandomOrder(this.#options.holdOut, this.#random);
        this.#wake();
      },
      (error: unknown) => this.#out.error(error),
    );
  }

  async #score({ examples, arrival }: Arrived<L>, trials: Trials): Promise<void> {
    const candidate = arrival >= this.#tried!.from ? trials.candidate : null;
    const { live, fallback } = trials;
    if (candidate === null && fallback === null) return;
    const versions = [live, candidate, fallback].filter((version) => version !== null);
    let losses: number[][];
    try {
      losses = await this.#scorer.score(examples, versions);
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#failuresInARow = 0;
    if (this.#closed || this.#isChangedByOthers) return;
    for (const own of losses) {
      const lost = (version: number | null): number | null => (version === null ? null : own[versions.indexOf(version)]!);
      const decision = trials.add({ live: lost(live)!, candidate: lost(candidate), fallback: lost(fallback) });
      if (!decision) continue;
      this.#decided(decision, trials);
      return;
    }
  }

  /** Whether somebody else has shown a version, or pinned one: trials begin anew from there. */
  get #isChangedByOthers(): boolean {
    const trials = this.#trials;
    if (!trials) return false;
    const isTrying = trials.candidate !== null || trials.fallback !== null;
    return this.#params.liveVersion !== trials.live || (this.#params.pinned && isTrying);
  }

  #decided(decision: Decision | null, trials: Trials): void {
    if (!decision) return;
    const { position } = this.#params.kept.find(decision.version);
    if (decision.decision === 'promoted') this.#promote(decision, trials);
    else if (decision.decision === 'confirmed') this.#roles.confirm();
    else {
      if (decision.decision === 'rolledBack') this.#roles.rollBack(decision.against);
      this.#roles.drop();
    }
    this.#tell({
      kind: 'gate',
      at: this.#options.session.model,
      ...decision,
      live: this.#params.liveVersion,
      fallback: trials.fallback,
      margin: this.#options.margin,
      errorRate: this.#options.errorRate,
      test: this.#options.test,
      position,
      missed: this.#waiting.missed,
      failures: this.#failures,
    });
  }

  #promote({ version, against }: Decision, { fallback }: Trials): void {
    const { update } = this.#tried!;
    const promotion = new WeightsUpdate(update.params, update.average, update.facts);
    promotion.kept = this.#roles.promote(version, against, fallback);
    this.#out.next(promotion);
  }

  #tell(decision: GateDecision): void {
    if (channels.gate.hasSubscribers) channels.gate.publish(decision);
    this.#options.decisions?.next?.(decision);
  }

  #failed(cause: unknown): void {
    this.#failures += 1;
    // Whoever serves more than it can is not broken: these examples are missed.
    if (isRxgradError(cause) && cause.disposition === 'retry') return;
    this.#failuresInARow += 1;
    const { message } = cause as Error;
    const { session, maxFailuresInARow } = this.#options;
    if (this.#failuresInARow >= maxFailuresInARow) {
      throw new RxgradError('scoringFails', { model: session.model, count: this.#failuresInARow, last: message }, { cause });
    }
    if (this.#warned) return;
    this.#warned = true;
    process.emitWarning(`${message}. The gate goes on without these examples`, { code: 'RXGRAD_SCORING_FAILED' });
  }
}
