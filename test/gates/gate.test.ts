import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import { Tensor } from 'onnxruntime-node';
import {
  type GateDecision,
  type GateOptions,
  gate,
  gradientBatch,
  HotSwapSession,
  type HotSwapSessionOptions,
  hotSwap,
  type LabelledExamples,
  Parameters as ModelParameters,
  type Observation,
  observations,
  sgd,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import { NEVER, Subject, type Subscription } from 'rxjs';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { denseModel } from '../../bench/dense-model.ts';
import type { Labels } from '../../src/autodiff/mlp-gradients.ts';
import { RxgradError } from '../../src/errors.ts';
import { eventually } from '../eventually.ts';

/** A message of labelled examples for the model y = x · w: x is 1, so that the loss is the distance of w from the label. */
function labelled(label: number, examples = 50): LabelledExamples {
  return {
    feeds: { x: new Tensor('float32', new Float32Array(examples).fill(1), [examples, 1]) },
    labels: new Float32Array(examples).fill(label),
  };
}

const distance = ({ y }: Readonly<Record<string, Tensor>>, labels: Labels): number[] =>
  Array.from(y!.data as Float32Array, (value, i) => Math.abs(value - Number(labels[i])));

interface Gated {
  readonly session: HotSwapSession;
  readonly labelled$: Subject<LabelledExamples>;
  readonly updates: WeightsUpdate[];
  readonly decisions: GateDecision[];
  readonly ending: { error?: unknown; completed: boolean };
  readonly subscription: Subscription;
  /** Takes a step that makes the weight a number. */
  train(weight: number): void;
  complete(): void;
  /** Sends examples until something was decided. */
  decide(label: number): Promise<GateDecision | undefined>;
}

/** A session that starts with the weight 0, trained behind a gate. */
async function gated(options: Partial<GateOptions> = {}, threads = 0, loaded?: HotSwapSession): Promise<Gated> {
  const session = loaded ?? (await HotSwapSession.load(denseModel(1)));
  onTestFinished(() => session.dispose());
  const labelled$ = new Subject<LabelledExamples>();
  const events$ = new Subject<TrainingEvent>();
  const updates: WeightsUpdate[] = [];
  const decisions: GateDecision[] = [];
  const ending: Gated['ending'] = { completed: false };
  const source = options.holdOut ? {} : { labelled: labelled$ };
  const subscription = events$
    .pipe(
      sgd(session.params, { lr: 1, threads }),
      gate({
        session,
        ...source,
        loss: distance,
        margin: 0.1,
        maxLoss: 1,
        decisions: { next: (decision) => void decisions.push(decision) },
        ...options,
      }),
      hotSwap(session),
    )
    .subscribe({
      next: (update) => updates.push(update),
      error: (error) => Object.assign(ending, { error }),
      complete: () => Object.assign(ending, { completed: true }),
    });
  onTestFinished(() => subscription.unsubscribe());
  await settled();
  return {
    session,
    labelled$,
    updates,
    decisions,
    ending,
    subscription,
    train(weight) {
      const w = session.params.get('w').data[0]!;
      events$.next(gradientBatch({ gradients: { w: { dims: [1, 1], data: Float32Array.of(w - weight) } } }));
    },
    complete: () => events$.complete(),
    async decide(label) {
      const before = decisions.length;
      for (let message = 0; message < 100 && decisions.length === before; message++) {
        labelled$.next(labelled(label));
        await settled();
      }
      return decisions[before];
    },
  };
}

/** Waits until what a gate does at once is done. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await eventLoopTurn();
}

async function served(session: HotSwapSession): Promise<number> {
  const { outputs } = await session.predict(labelled(0, 1).feeds);
  return (outputs.y!.data as Float32Array)[0]!;
}

describe('a gate', () => {
  it('lets a candidate live that is not worse, and swallows every other update', async () => {
    const { session, train, decide, updates, decisions } = await gated();
    train(0.5);
    await settled();
    train(0.9);
    expect(updates).toEqual([]);
    expect(await served(session)).toBe(0);
    expect(await decide(0.5)).toMatchObject({
      kind: 'gate',
      decision: 'promoted',
      version: 1,
      against: 0,
      live: 1,
      fallback: 0,
      loss: 0,
      againstLoss: 0.5,
      difference: -0.5,
      margin: 0.1,
      errorRate: 0.05,
      test: 'empiricalBernstein',
      missed: 0,
      failures: 0,
    });
    expect(updates.map(({ version, kept }) => [version, kept!.version])).toEqual([[1, 1]]);
    expect(await served(session)).toBe(0.5);
    expect(session.params.kept.find('stable').version).toBe(1);
    expect(session.params.kept.find('fallback').version).toBe(0);
    // The next candidate is the newest one, without waiting for another update.
    expect(session.params.kept.find('candidate').version).toBe(2);
    expect(decisions).toHaveLength(1);
  });

  it.each<HotSwapSessionOptions>([{ workers: 2 }, { maxBatch: 16 }, { strategy: 'rebuild' }])(
    'promotes and rolls back what a session serves with %j',
    async (options) => {
      const loaded = await HotSwapSession.load(denseModel(1), undefined, options);
      const { session, train, labelled$, decisions } = await gated({ maxLoss: 1 }, 0, loaded);
      const serves = (weight: number) => eventually(async () => expect(await served(session)).toBe(weight));
      let scored = 0;
      const predictions = observations().subscribe(({ kind }) => {
        if (kind === 'prediction') scored += 1;
      });
      onTestFinished(() => predictions.unsubscribe());
      /** Scoring takes its time on threads: one message after the other, each by two versions at least. */
      const decided = async (label: number): Promise<string> => {
        const before = decisions.length;
        for (let message = 0; message < 100 && decisions.length === before; message++) {
          const until = scored + 2;
          labelled$.next(labelled(label));
          await eventually(() => expect(scored).toBeGreaterThanOrEqual(until));
          await settled();
        }
        return String(decisions[before]?.decision);
      };
      train(0.5);
      // What comes before there is a candidate is not scored.
      await eventually(() => expect(session.params.kept.find('candidate').version).toBe(1));
      // Threads that score are started when first needed.
      await session.predict(labelled(0, 1).feeds, { version: 'stable' });
      expect(await decided(0.5)).toBe('promoted');
      await serves(0.5);
      expect((await session.predict(labelled(0, 1).feeds, { version: 'fallback' })).version).toBe(0);
      expect(await decided(0)).toBe('rolledBack');
      await serves(0);
    },
  );

  it('keeps out what is worse, and lets it go', async () => {
    const { session, train, decide, updates } = await gated();
    train(0.5);
    expect(await decide(0)).toMatchObject({ decision: 'rejected', version: 1, live: 0, fallback: null, difference: 0.5 });
    expect(updates).toEqual([]);
    expect(await served(session)).toBe(0);
    expect(session.params.kept.list().map(({ version }) => version)).toEqual([0]);
  });

  it('leaves a rejected version in memory where somebody else has given it a name', async () => {
    const { session, train, decide } = await gated();
    train(0.5);
    await settled();
    session.params.kept.label('candidate', 'mine');
    expect(await decide(0)).toMatchObject({ decision: 'rejected', version: 1 });
    expect(session.params.kept.find('mine')).toMatchObject({ version: 1, labels: ['mine'] });
  });

  it('rolls back what turns out worse than the version before it', async () => {
    const { session, train, decide } = await gated();
    train(0.5);
    expect((await decide(0.5))!.decision).toBe('promoted');
    const seen: Observation[] = [];
    const subscription = observations().subscribe((observation) => seen.push(observation));
    onTestFinished(() => subscription.unsubscribe());
    expect(await decide(0)).toMatchObject({ decision: 'rolledBack', version: 1, against: 0, live: 0, fallback: null });
    expect(await served(session)).toBe(0);
    expect(session.params.kept.find('stable').version).toBe(0);
    expect(session.params.kept.has('fallback')).toBe(false);
    expect(seen.filter(({ kind }) => kind === 'swap')).toMatchObject([{ at: 'gate', version: 0 }]);
    expect(seen.filter(({ kind }) => kind === 'gate')).toHaveLength(1);
  });

  it('lets the fallback go when the live version is shown to be better', async () => {
    const { session, train, decide } = await gated();
    train(0.5);
    await decide(0.5);
    expect(await decide(0.5)).toMatchObject({ decision: 'confirmed', version: 1, against: 0, fallback: null });
    expect(session.params.kept.has('fallback')).toBe(false);
  });

  it('never tries weights that are not finite', async () => {
    const { session, train, decide, ending } = await gated({ every: { versions: 2 } });
    train(3e38);
    train(6e38);
    await settled();
    expect(session.params.finite).toBe(false);
    expect(await decide(0)).toBeUndefined();
    expect(session.params.kept.has('candidate')).toBe(false);
    expect(ending.error).toBeUndefined();
  });

  it('does not score a candidate on examples that came before it', async () => {
    const { train, decide, labelled$ } = await gated();
    for (let message = 0; message < 20; message++) labelled$.next(labelled(0.5));
    train(0.5);
    expect(await decide(0)).toMatchObject({ decision: 'rejected', loss: 0.5, againstLoss: 0 });
  });

  it('does not score a candidate on examples that were waiting when it was made', async () => {
    const session = await HotSwapSession.load(denseModel(1));
    const asked: { rows: number; version: unknown }[] = [];
    let scored = Promise.resolve();
    const slow = {
      model: session.model,
      params: session.params,
      predict: async (...[feeds, options]: Parameters<HotSwapSession['predict']>) => {
        asked.push({ rows: feeds.x!.dims[0]!, version: options!.version });
        await scored;
        return session.predict(feeds, options);
      },
    };
    const { train, labelled$, decide } = await gated({ session: slow }, 0, session);
    train(0.5);
    expect(await decide(0.5)).toMatchObject({ decision: 'promoted', version: 1 });
    const { promise, resolve } = Promise.withResolvers<void>();
    scored = promise;
    labelled$.next(labelled(0.5, 1));
    await settled();
    labelled$.next(labelled(0.5, 2));
    train(0.6);
    await settled();
    expect(session.params.kept.find('candidate').version).toBe(2);
    labelled$.next(labelled(0.5, 3));
    resolve();
    await settled();
    const versionsOf = (rows: number) => asked.filter((one) => one.rows === rows).map(({ version }) => version);
    // What it may have learnt from tells the live version from its fallback alone.
    expect(versionsOf(2)).toEqual([1, 0]);
    expect(versionsOf(3)).toEqual([1, 2, 0]);
  });

  it('tries a version again only after so many', async () => {
    const { session, train, decide } = await gated({ every: { versions: 3 } });
    const versions: number[] = [];
    for (let step = 0; step < 9; step++) {
      train(0.5);
      await settled();
      if (!session.params.kept.has('candidate')) continue;
      versions.push(session.params.kept.find('candidate').version);
      await decide(0);
    }
    expect(versions).toEqual([3, 6, 9]);
  });

  it('tries a version again only after some time', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const { session, train, decide } = await gated({ every: { ms: 1000 } });
    train(0.5);
    await decide(0);
    train(0.6);
    await settled();
    expect(session.params.kept.has('candidate')).toBe(false);
    vi.advanceTimersByTime(1000);
    train(0.7);
    await settled();
    expect(session.params.kept.find('candidate').version).toBe(3);
  });

  it('gives up on a candidate after so many examples', async () => {
    const { train, decide, session } = await gated({ maxExamples: 120 });
    train(0.1);
    expect(await decide(0)).toMatchObject({ decision: 'undecided', version: 1, examples: 120, live: 0 });
    expect(session.params.kept.has('candidate')).toBe(false);
  });

  it('begins anew from what somebody else has made live, and tries nothing while that is pinned', async () => {
    const { session, train, decide, decisions } = await gated();
    train(0.5);
    await decide(0.5);
    train(0.4);
    await session.rollback(0);
    expect(await decide(0.5)).toBeUndefined();
    expect(await served(session)).toBe(0);
    expect(session.params.kept.has('candidate')).toBe(false);
    session.unpin();
    train(0.5);
    expect(await decide(0.5)).toBeDefined();
    expect(decisions.at(-1)!.live).toBeGreaterThan(0);
  });

  it.each(['somebody else showed a version', 'its subscriber left'])(
    'decides nothing on losses that come after %s',
    async (what) => {
      const session = await HotSwapSession.load(denseModel(1));
      const asked = vi.fn();
      const { promise: scored, resolve: score } = Promise.withResolvers<void>();
      const slow = {
        model: session.model,
        params: session.params,
        predict: async (...given: Parameters<HotSwapSession['predict']>) => {
          asked();
          await scored;
          return session.predict(...given);
        },
      };
      const { train, labelled$, decisions, updates, subscription } = await gated({ session: slow }, 0, session);
      train(0.5);
      await settled();
      labelled$.next(labelled(0.5, 5000));
      await settled();
      expect(asked).toHaveBeenCalled();
      if (what === 'its subscriber left') subscription.unsubscribe();
      else await session.rollback(0);
      score();
      await settled();
      expect(decisions).toEqual([]);
      expect(updates).toEqual([]);
      expect(await served(session)).toBe(0);
    },
  );

  it('freezes weights between two steps, also where other threads take them', async () => {
    const { session, train, decide, decisions } = await gated({}, 1);
    for (let step = 1; step <= 200; step++) {
      train(step % 2 === 0 ? 0.5 : 0.9);
      await eventually(() => expect(session.params.version).toBe(step));
      if (step % 10 === 0) await decide(0.5);
    }
    const tried = decisions.filter(({ decision }) => decision === 'promoted' || decision === 'rejected');
    expect(tried.length).toBeGreaterThan(2);
    for (const { version, loss } of tried) expect(loss).toBeCloseTo(version % 2 === 0 ? 0 : 0.4, 6);
  });

  it('serves an average, where there is one', async () => {
    const params = ModelParameters.create({ w: { dims: [1, 1], data: [0] } });
    const session = await HotSwapSession.load(denseModel(1), params);
    onTestFinished(() => session.dispose());
    const trained = params.twin();
    const events$ = new Subject<TrainingEvent>();
    const labelled$ = new Subject<LabelledExamples>();
    const subscription = events$
      .pipe(
        sgd(trained, { lr: 1, average: { into: params, decay: 0.5, after: 0 } }),
        gate({ session, labelled: labelled$, loss: distance, margin: 0.1, maxLoss: 1 }),
        hotSwap(session),
      )
      .subscribe();
    onTestFinished(() => subscription.unsubscribe());
    await settled();
    events$.next(gradientBatch({ gradients: { w: { dims: [1, 1], data: Float32Array.of(-0.5) } } }));
    for (let message = 0; message < 10; message++) {
      labelled$.next(labelled(0.5));
      await settled();
    }
    expect(params.liveVersion).toBe(1);
    expect(await served(session)).toBe(params.get('w').data[0]);
  });
});

describe('on held-out examples, a gate', () => {
  const holdOut = (label: number, messages: number) => Array.from({ length: messages }, () => labelled(label, 10));

  it('decides as soon as it can, without a stream of labels', async () => {
    const { session, train, decisions } = await gated({ holdOut: holdOut(0.5, 50) });
    train(0.5);
    await eventually(() => expect(decisions).toHaveLength(1));
    expect(decisions[0]).toMatchObject({ decision: 'promoted', version: 1 });
    expect(decisions[0]!.examples).toBeLessThan(100);
    expect(await served(session)).toBe(0.5);
  });

  it('sees each once, and gives up where they do not suffice', async () => {
    const { train, decisions } = await gated({ holdOut: holdOut(0, 5) });
    train(0.1);
    await eventually(() => expect(decisions).toHaveLength(1));
    expect(decisions[0]).toMatchObject({ decision: 'undecided', examples: 50 });
  });

  it('tries the last weights before it completes', async () => {
    const { train, complete, ending, updates } = await gated({ holdOut: holdOut(0.5, 50) });
    train(0.3);
    train(0.4);
    train(0.5);
    complete();
    await eventually(() => expect(ending.completed).toBe(true));
    expect(updates.map(({ version }) => version)).toEqual([1, 3]);
  });
});

describe('a gate’s stream', () => {
  it('completes behind the updates, once what waited is scored', async () => {
    const { train, complete, labelled$, ending, decisions } = await gated();
    train(0.5);
    await settled();
    for (let message = 0; message < 30; message++) labelled$.next(labelled(0.5));
    complete();
    await eventually(() => expect(ending.completed).toBe(true));
    expect(decisions.map(({ decision }) => decision)).toEqual(['promoted', 'confirmed']);
  });

  it('drops a candidate undecided where updates or labels end', async () => {
    for (const end of ['updates', 'labels']) {
      const { train, complete, labelled$, decisions, ending } = await gated();
      train(0.5);
      await settled();
      labelled$.next(labelled(0.5, 3));
      if (end === 'updates') complete();
      else labelled$.complete();
      await eventually(() => expect(decisions).toMatchObject([{ decision: 'undecided', examples: 3 }]));
      await settled();
      expect(ending.completed).toBe(end === 'updates');
      train(0.6);
      await settled();
      expect(decisions).toHaveLength(1);
    }
  });

  it('fails with the labels, and with an observer that throws', async () => {
    const { labelled$, ending } = await gated();
    labelled$.error(new Error('no labels'));
    expect(ending.error).toMatchObject({ message: 'no labels' });
    const other = await gated({
      decisions: {
        next() {
          throw new Error('observer');
        },
      },
    });
    other.train(0.5);
    await other.decide(0.5);
    expect(other.ending.error).toMatchObject({ message: 'observer' });
  });

  it('goes on when scoring fails, tells so once, and fails when it fails again and again', async () => {
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    onTestFinished(() => void warnings.mockRestore());
    const { train, labelled$, decide, ending } = await gated({ maxFailuresInARow: 3 });
    train(0.5);
    await settled();
    const bad = { ...labelled(0.5), feeds: {} };
    for (const examples of [bad, bad, labelled(0.5, 1), bad]) labelled$.next(examples);
    expect(await decide(0.5)).toMatchObject({ decision: 'promoted', failures: 3 });
    expect(warnings).toHaveBeenCalledTimes(1);
    expect(warnings.mock.calls[0]![1]).toMatchObject({ code: 'RXGRAD_SCORING_FAILED' });
    for (let message = 0; message < 3; message++) labelled$.next(bad);
    await settled();
    expect(ending.error).toMatchObject({
      code: 'RXGRAD_SCORING_FAILS',
      message: expect.stringContaining('expected input "x"'),
      cause: { code: 'RXGRAD_INVALID_FEED' },
    });
  });

  it('goes on however often the session is too busy for its examples', async () => {
    const session = await HotSwapSession.load(denseModel(1));
    onTestFinished(() => session.dispose());
    let busy = true;
    const sometimesBusy = {
      model: session.model,
      params: session.params,
      predict: async (...asked: Parameters<HotSwapSession['predict']>) => {
        if (busy) throw new RxgradError('overloaded', { model: session.model, limit: 1 });
        return session.predict(...asked);
      },
    };
    const { train, labelled$, decide, ending } = await gated({ session: sometimesBusy, maxFailuresInARow: 2 }, 0, session);
    train(0.5);
    await settled();
    for (let message = 0; message < 5; message++) labelled$.next(labelled(0.5));
    await settled();
    busy = false;
    expect(await decide(0.5)).toMatchObject({ decision: 'promoted', failures: 5 });
    expect(ending.error).toBeUndefined();
  });

  it('lets the oldest examples go where scoring is slower, and counts them', async () => {
    const { train, labelled$, decide } = await gated({ maxWaiting: 4 });
    train(0.5);
    await settled();
    for (let message = 0; message < 10; message++) labelled$.next(labelled(0.5, 1));
    await settled();
    expect((await decide(0.5))!.missed).toBe(6);
  });

  it('ends with its subscription', async () => {
    const { session, labelled$ } = await gated();
    expect(labelled$.observed).toBe(true);
    const other$ = new Subject<LabelledExamples>();
    const subscription = NEVER.pipe(gate({ session, labelled: other$, loss: distance, margin: 0.1 })).subscribe();
    subscription.unsubscribe();
    expect(other$.observed).toBe(false);
  });

  it('fails where the updates are not of the session’s parameters', async () => {
    const { session } = await gated();
    const events$ = new Subject<TrainingEvent>();
    const others = ModelParameters.create({ w: { dims: [1, 1], data: [0] } });
    let failure: unknown;
    events$
      .pipe(sgd(others), gate({ session, labelled: NEVER, loss: distance, margin: 0.1 }))
      .subscribe({ error: (error) => (failure = error) });
    events$.next(gradientBatch({ gradients: { w: { dims: [1, 1], data: Float32Array.of(1) } } }));
    expect(failure).toMatchObject({ code: 'RXGRAD_INVALID_OPTION', message: expect.stringContaining('gate: session') });
  });
});

describe('losses', () => {
  it('are computed of logits by name of the loss; the output has to be named where there are several', async () => {
    const params = ModelParameters.create({ w: { dims: [1, 1], data: [0] } });
    const session = await HotSwapSession.load(denseModel(1), params);
    onTestFinished(() => session.dispose());
    const { train, decide } = await gated({ loss: 'bceWithLogits', output: 'y', maxLoss: 4 });
    train(3);
    expect(await decide(1)).toMatchObject({ decision: 'promoted', againstLoss: expect.closeTo(Math.LN2, 9) });
    const only = await gated({ loss: 'bceWithLogits', maxLoss: 4 });
    only.train(3);
    expect(await only.decide(1)).toMatchObject({ decision: 'promoted', failures: 0 });
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    onTestFinished(() => void warnings.mockRestore());
    const wrong = await gated({ loss: 'bceWithLogits', output: 'z', maxFailuresInARow: 1 });
    wrong.train(1);
    await settled();
    wrong.labelled$.next(labelled(1));
    await settled();
    expect(wrong.ending.error).toMatchObject({ message: expect.stringContaining('gate: output: expected one of y, got z') });
  });
});

describe('losses of a model with several outputs', () => {
  const start = async (output?: string) => {
    const session = await HotSwapSession.load(denseModel(1));
    const twofold = {
      model: session.model,
      params: session.params,
      predict: async (...asked: Parameters<HotSwapSession['predict']>) => {
        const { outputs, ...rest } = await session.predict(...asked);
        return { ...rest, outputs: { other: outputs.y!, y: outputs.y! } };
      },
    };
    const named = output === undefined ? {} : { output };
    return gated({ session: twofold, loss: 'bceWithLogits', maxFailuresInARow: 1, maxLoss: 4, ...named }, 0, session);
  };

  it('are those of the one that is named', async () => {
    const { train, decide } = await start('y');
    train(3);
    expect(await decide(1)).toMatchObject({ decision: 'promoted' });
  });

  it('are refused where none is named', async () => {
    const { train, labelled$, ending } = await start();
    train(3);
    await settled();
    labelled$.next(labelled(1));
    await settled();
    expect(ending.error).toMatchObject({ message: expect.stringContaining('gate: output: expected one of other, y, got none') });
  });
});

describe('options', () => {
  it.each([
    [{ margin: -1 }, 'gate: margin: expected >=0, got -1'],
    [{ margin: 5 }, 'gate: margin: expected less than maxLoss (4), got 5'],
    [{ labelled: undefined }, 'gate: expected either labelled or holdOut'],
    [{ holdOut: [labelled(0)] }, 'gate: expected either labelled or holdOut'],
    [{ holdOut: [], labelled: undefined }, 'gate: holdOut: expected an array of examples'],
    [{ loss: 'mse' }, 'gate: loss: expected bceWithLogits, crossEntropy or a function'],
    [{ errorRate: 0.5 }, 'gate: errorRate: expected <0.5'],
    [{ test: 'tTest' }, 'gate: test: expected'],
    [{ session: {} }, 'gate: session: expected a session'],
    [{ session: null }, 'gate: session: expected a session'],
    [{ decisions: 5 }, 'gate: decisions: expected an observer'],
    [{ decisions: null }, 'gate: decisions: expected an observer'],
    [{ every: { steps: 1 } }, 'gate: every.steps: expected no such option'],
  ])('%o is refused', async (wrong, message) => {
    const session = await HotSwapSession.load(denseModel(1));
    onTestFinished(() => session.dispose());
    const options = { session, labelled: NEVER, loss: 'bceWithLogits', margin: 0.1, ...wrong } as GateOptions;
    expect(() => gate(options)).toThrow(message);
  });
});
