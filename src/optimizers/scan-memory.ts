import { assertNoDifferences } from '../errors.ts';
import type { Delivery } from '../events.ts';
import { Once } from '../once.ts';
import type { KeptState } from '../params/state-dict.ts';
import { Reached } from '../reached.ts';
import type { Rates } from './rates.ts';
import { differencesOf, inOrderOf, parseScanFacts, placeBefore, type ScanFacts, type ScanShape, seenOf } from './scan-facts.ts';
import type { Stepper } from './stepper.ts';

/** All that a scan has to remember to go on another time: what was counted, how far, at which rates, and its stepper's state. */
export class ScanMemory {
  readonly once = new Once();
  readonly reached = new Reached();
  readonly rates: Rates;
  readonly #stepper: Stepper;
  readonly #shape: ScanShape;

  constructor(stepper: Stepper, rates: Rates, shape: ScanShape) {
    this.#stepper = stepper;
    this.rates = rates;
    this.#shape = shape;
  }

  /** Notes an event that the state contains, and with it what was merged on the way. */
  note(delivery: Delivery | null): void {
    this.reached.note(delivery);
    for (const batch of delivery?.merged ?? []) this.once.applied(batch);
  }

  state(): KeptState {
    const { arrays, ...once } = this.once.state();
    const facts: ScanFacts = {
      rule: this.#shape.rule,
      ...this.#stepper.facts,
      once: { ...once, partitions: once.partitions.map((partition) => partition && [...partition]) },
      positions: this.reached.state(),
      log: this.reached.log(),
      groups: [...this.#shape.groups],
      recipe: this.#shape.recipe,
      ...this.rates.state(),
    };
    return { tensors: this.#stepper.tensors, facts: { ...facts }, arrays, names: this.#shape.names, strict: true, exact: false };
  }

  /** Goes on from where another scan was. */
  restore(kept: KeptState): void {
    if (!kept.facts) {
      this.#stepper.restore(kept, null);
      return;
    }
    const before = placeBefore(kept.facts);
    if (before) {
      this.reached.restore(before.positions, before.log);
      return;
    }
    const { rule, names } = this.#shape;
    const facts = inOrderOf(parseScanFacts(kept.facts), names, kept.names);
    const differences = differencesOf(facts, this.#shape, new Set(kept.names), kept.exact);
    if (kept.strict) assertNoDifferences(differences);
    this.#stepper.restore(kept, facts.rule === rule ? facts : null);
    this.once.restore(seenOf(facts, kept.arrays)!);
    this.reached.restore(facts.positions, facts.log);
    if (facts.schedules.length === this.rates.size) this.rates.restore(facts);
  }
}
