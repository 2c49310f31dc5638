import type { Labels } from '../autodiff/mlp-gradients.ts';
import { RxgradError } from '../errors.ts';
import type { Prediction } from '../inference/hot-swap-session.ts';
import { expectOption } from '../options.ts';
import { exampleLosses } from './example-losses.ts';
import type { LabelledExamples, ParsedGateOptions, ScoringLoss } from './gate-options.ts';

/** Scores versions of a session on labelled examples. */
export class Scorer<L> {
  readonly #session: ParsedGateOptions<L>['session'];
  readonly #lossesOf: (outputs: Prediction['outputs'], labels: L) => number | ArrayLike<number>;

  constructor({ session, loss, output }: ParsedGateOptions<L>) {
    this.#session = session;
    if (typeof loss === 'function') this.#lossesOf = loss as ScoringLoss<L>;
    else {
      this.#lossesOf = (outputs, labels) => {
        const names = Object.keys(outputs);
        const name = output ?? names[0]!;
        const found = outputs[name] && (output !== undefined || names.length === 1);
        expectOption(found === true, 'gate: output', `one of ${names.join(', ')}`, output ?? 'none');
        // Labels are those of a loss by name where one is asked for.
        return exampleLosses(loss, outputs[name] as Parameters<typeof exampleLosses>[1], labels as Labels, session.model);
      };
    }
  }

  /** The losses of some versions on the same examples: those of each example together. */
  async score({ feeds, labels }: LabelledExamples<L>, versions: readonly number[]): Promise<number[][]> {
    const losses = await Promise.all(
      versions.map(async (version) => {
        const { outputs } = await this.#session.predict(feeds, { version });
        const all = this.#lossesOf(outputs, labels);
        return typeof all === 'number' ? [all] : Array.from(all);
      }),
    );
    const counts = new Set(losses.map(({ length }) => length));
    if (counts.size > 1 || counts.has(0)) {
      throw new RxgradError('invalidFeed', {
        model: this.#session.model,
        input: 'labels',
        expected: 'with a loss for each example, of every version as many',
        got: [...counts].join(', '),
      });
    }
    return losses[0]!.map((_, example) => losses.map((of) => of[example]!));
  }
}
