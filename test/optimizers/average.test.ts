import fc from 'fast-check';
import {
  type AverageOptions,
  type GradientBatch,
  type GradientInput,
  gradientBatch,
  HotSwapSession,
  hotSwap,
  momentum,
  type ParameterGroup,
  Parameters,
  sgd,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import { from, lastValueFrom, type OperatorFunction, of, Subject, tap, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { example, expectClose, feedsOf } from '../inference/onnx/example-models.ts';
import { wave } from '../stages/gradients.ts';
import { batch, bitsOf, model, type Scan, scans } from './batches.ts';

type Options = Omit<AverageOptions, 'into'>;
const f32 = Math.fround;
const batches = [batch(1), batch(-2), batch(0.5, {}, ['a', 'c']), batch(3), batch(-1, {}, ['b']), batch(2)];

/** Trains a twin of some parameters, which take the average. */
async function follow(
  into: Parameters,
  scan: Scan,
  events: readonly TrainingEvent[],
  average: Options,
  { threads = 0, trained = into.twin() }: { threads?: number; trained?: Parameters } = {},
  each: OperatorFunction<WeightsUpdate, WeightsUpdate> = tap(),
  groups: readonly ParameterGroup[] = [{ params: 'c', frozen: true }],
): Promise<Parameters> {
  const options = { lr: 0.1, threads, groups, average: { into, ...average } };
  await lastValueFrom(from(events).pipe(scan(trained, options), each, toArray()));
  return trained;
}

/** The average in float32, from the weights that a run without one goes through. */
function expected(scan: Scan, events: readonly TrainingEvent[], { decay, after = 0 }: Options): number[] {
  const params = model();
  const averages = new Map([...params].map(({ name, data }) => [name, data.slice()]));
  const steps = new Map<string, number>();
  let applied = 0;
  from(events)
    .pipe(scan(params, { lr: 0.1, groups: [{ params: 'c', frozen: true }] }))
    .subscribe(() => {
      const names = (events[applied++] as GradientBatch).message.layout.tensors.map(({ name }) => name);
      for (const name of names.filter((name) => name !== 'c')) {
        const step = (steps.get(name) ?? 0) + 1;
        steps.set(name, step);
        const share = step - after <= 1 ? 1 : decay === undefined ? f32(1 / (step - after)) : f32(1 - (decay as number));
        averages.set(
          name,
          averages.get(name)!.map((a, i) => {
            const newest = params.get(name).data[i]!;
            return share === 1 ? newest : f32(a + f32(share * f32(newest - a)));
          }),
        );
      }
    });
  return [...averages.values()].flatMap((data) => [...new Uint32Array(data.buffer)]);
}

const forms: Options[] = [{ decay: 0.9 }, {}, { decay: 0.5, after: 2 }, { after: 1 }];

describe.each(scans)('an average of %s', (_, scan) => {
  it.each(forms)('is that of its weights, which are what they are without it: %o', async (form) => {
    const alone = model();
    const groups = [{ params: 'c', frozen: true }];
    await lastValueFrom(from(batches).pipe(scan(alone, { lr: 0.1, groups }), toArray()));
    for (const threads of form === forms[0] ? [0, 2] : [0]) {
      const into = model();
      const trained = await follow(into, scan, batches, form, { threads });
      expect(bitsOf(trained)).toEqual(bitsOf(alone));
      expect(bitsOf(into)).toEqual(expected(scan, batches, form));
      expect(into.version).toBe(6);
    }
  });

  it('goes on from a state dict with the same bits', async () => {
    for (const form of forms) {
      const whole = model();
      const all = await follow(whole, scan, batches, form);
      const first = await follow(model(), scan, batches.slice(0, 3), form);
      const into = model();
      const trained = into.twin();
      trained.loadStateDict(first.stateDict());
      await follow(into, scan, batches.slice(3), form, { trained });
      expect(bitsOf(into)).toEqual(bitsOf(whole));
      expect(trained.stateDict()).toEqual(all.stateDict());
    }
  });
});

describe('the average', () => {
  // torch 2.15, torch.optim.swa_utils.AveragedModel over torch.optim.SGD at a rate of 0.1 with momentum 0.9.
  it.each<[string, Options, number[]]>([
    ['get_ema_multi_avg_fn(0.9)', { decay: 0.9 }, [0.91352999, -2.17294, 2.7405901, -4.34588, 4.5676498, -6.5188198]],
    ['the default', {}, [0.94302499, -2.1139503, 2.8290751, -4.2279005, 4.7151251, -6.3418498]],
  ])('is what torch makes it: %s', async (_, form, a) => {
    const into = model();
    await follow(into, momentum, [batch(1), batch(-2), batch(0.5), batch(3)], form);
    for (const [i, value] of a.entries()) expect(into.get('a').data[i]).toBeCloseTo(value, 5);
  });

  it('copies weights that were loaded since the twin was made', async () => {
    const into = model();
    const trained = into.twin();
    trained.load({ a: [9, 9, 9, 9, 9, 9], c: [8] });
    await follow(into, sgd, [batch(0, {}, ['b'])], { decay: 0.9 }, { trained });
    expect(bitsOf(into)).toEqual(bitsOf(trained));
  });

  it('is served by the session whose parameters it goes into', async (t) => {
    const logistic = example('logistic');
    const session = await HotSwapSession.load(logistic.path);
    t.onTestFinished(() => session.dispose());
    const gradients = Object.fromEntries(
      Object.entries(logistic.gradients).map(([name, { dims, data }]) => [name, { dims, data: Float32Array.from(data) }]),
    );
    const trained = session.params.twin();
    of(gradientBatch({ gradients }), gradientBatch({ gradients }))
      .pipe(sgd(trained, { lr: 0.1, average: { into: session.params } }), hotSwap(session))
      .subscribe();
    const { outputs, version } = await session.predict(feedsOf(logistic));
    expect(version).toBe(2);
    const mean = Object.fromEntries(
      [...trained].map(({ name, data }) => [name, data.map((w, i) => w + 0.05 * gradients[name]!.data[i]!)]),
    );
    for (const { name, data } of session.params) expectClose([...data], [...mean[name]!]);

    const other = await HotSwapSession.load(logistic.path);
    t.onTestFinished(() => other.dispose());
    other.params.load(mean);
    const expected = await other.predict(feedsOf(logistic));
    const name = session.outputNames[0]!;
    expectClose([...(outputs[name]!.data as Float32Array)], [...(expected.outputs[name]!.data as Float32Array)]);
  });

  it('goes to a session with parameters of its own as a copy', async () => {
    const [into, served] = [model(), model()];
    const session = { params: served, swap: () => served.swap() };
    await follow(into, momentum, batches, { decay: 0.9 }, {}, hotSwap(session));
    expect(bitsOf(served)).toEqual(bitsOf(into));
  });
});

describe('what is written of an average', () => {
  const tables = () => Parameters.create({ table: { dims: [40, 2] }, bias: { dims: [2] }, still: { dims: [1] } });
  const rowsOf = (row: number, value = 1) => ({ indices: [row], values: Float32Array.of(value, value) });

  it('is known to who follows it: parameters, and rows where those alone are copied', async () => {
    const into = tables();
    const changes = into.changes();
    const taken: unknown[] = [];
    const events = [
      gradientBatch({ gradients: { table: rowsOf(3), bias: Float32Array.of(1, 1) } }),
      gradientBatch({ gradients: { table: rowsOf(7) } }),
      gradientBatch({ gradients: { bias: Float32Array.of(1, 1) } }),
    ];
    const decay = { table: 0, '*': 0.9 };
    await follow(
      into,
      sgd,
      events,
      { decay },
      { trained: into.twin() },
      tap(() => taken.push(changes.take())),
      [],
    );
    expect(taken).toEqual([
      new Map([
        [0, null],
        [1, null],
        [2, null],
      ]),
      new Map([[0, Int32Array.of(7)]]),
      new Map([[1, null]]),
    ]);
  });

  it.each([
    ['all of a parameter', { bias: Float32Array.of(3, 3) }],
    ['rows', { table: rowsOf(5, 3) }],
  ])('does not go live where it is not finite, of %s', async (_, gradients) => {
    const into = tables();
    const reader = into.reader();
    const seen: boolean[] = [];
    const events = [
      gradientBatch({ gradients: { table: rowsOf(1), bias: Float32Array.of(1, 1) } }),
      gradientBatch({ gradients }),
    ];
    const lr = 3e38;
    await lastValueFrom(
      from<TrainingEvent[]>(events).pipe(
        sgd(into.twin(), { lr, average: { into, decay: 0 } }),
        hotSwap({ params: into, swap: () => into.swap() }),
        tap(() => seen.push(into.finite)),
        toArray(),
      ),
    );
    expect([seen, into.version, into.liveVersion]).toEqual([[true, false], 2, 1]);
    expect(reader.read((weights) => Object.values(weights).every((data) => data.every(Number.isFinite)))).toBe(true);
  });

  it('is finite again once what was not is written anew: all of it, and no other rows', () => {
    const into = tables();
    const trained = into.twin();
    const events$ = new Subject<TrainingEvent>();
    events$.pipe(sgd(trained, { lr: 1, average: { into, decay: 0 } })).subscribe();
    const step = (gradients: Readonly<Record<string, GradientInput>>): boolean => {
      events$.next(gradientBatch({ gradients }));
      return into.finite;
    };
    expect(step({ table: rowsOf(1), bias: Float32Array.of(1, 1) })).toBe(true);
    trained.load({ bias: [Number.NaN, 0] });
    expect(step({ bias: Float32Array.of(1, 1) })).toBe(false);
    trained.load({ bias: [0, 0] });
    expect(step({ bias: Float32Array.of(1, 1) })).toBe(true);
    trained.load({ table: Array(80).fill(Number.NaN) });
    expect(step({ table: rowsOf(3) })).toBe(false);
    trained.load({ table: Array(80).fill(0) });
    expect(step({ table: rowsOf(5) })).toBe(false);
    expect(step({ table: new Float32Array(80) })).toBe(true);
  });

  it('says where in the log it came from', () => {
    const into = model();
    const position = { topic: 'g', partition: 1, offset: 8 };
    const { message } = batch(1);
    const event = Object.assign(batch(1), { message: { ...message, delivery: { position, source: { done: () => {} } } } });
    of<TrainingEvent>(event)
      .pipe(sgd(into.twin(), { average: { into } }))
      .subscribe();
    expect(into.newest).toMatchObject({ version: 1, position });
  });
});

describe('rows of a table', () => {
  const ROWS = 23;
  const table = (): Parameters =>
    Parameters.create({ table: { dims: [ROWS, 5], data: wave(5 * ROWS) }, bias: { dims: [3], data: [1, 2, 3] } });
  const step = fc.record({
    kind: fc.constantFrom('rows', 'rows', 'dense', 'bias'),
    rows: fc.uniqueArray(fc.nat(ROWS - 1), { maxLength: 4 }),
    swap: fc.boolean(),
  });
  const batchOf = ({ kind, rows }: { kind: string; rows: readonly number[] }, i: number): GradientBatch => {
    const indices = kind === 'dense' ? Array.from({ length: ROWS }, (_, row) => row) : rows;
    const values = wave(5 * indices.length, i);
    const sparse = kind === 'bias' ? {} : { table: kind === 'dense' ? values : { indices, values, dims: [indices.length, 5] } };
    return gradientBatch({ gradients: { bias: wave(3, i), ...sparse } });
  };

  it.each(['Momentum {}', 'Adam {}', 'Lamb {}'])(
    'have an average that readers see whole, in every version (%s)',
    async (name) => {
      const [, scan] = scans.find(([own]) => own === name)!;
      await fc.assert(
        fc.asyncProperty(
          fc.array(step, { minLength: 1, maxLength: 12 }),
          fc.constantFrom<Options>({ decay: { table: 0, '*': 0.9 } }, { decay: 0.9 }, { after: 3 }),
          async (steps, form) => {
            const run = async (reading: boolean) => {
              const into = table();
              const trained = into.twin();
              const readers = reading ? [into.reader(), trained.reader()] : [];
              const versions: number[][] = [bitsOf(into)];
              const updates$ = from(steps.map(batchOf)).pipe(scan(trained, { threads: 0, average: { into, ...form } }));
              await lastValueFrom(
                updates$.pipe(
                  tap(({ version }) => {
                    versions.push(bitsOf(into));
                    if (!steps[version - 1]!.swap) return;
                    into.swap();
                    trained.swap();
                    readers[0]?.read((weights, seen) => {
                      const bits = Object.values(weights).flatMap((data) => [...new Uint32Array(data.slice().buffer)]);
                      expect(bits).toEqual(versions[seen]);
                    });
                  }),
                ),
              );
              for (const reader of readers) reader.close();
              if (form.decay !== undefined && typeof form.decay === 'object') {
                expect(into.get('table').data).toEqual(trained.get('table').data);
              }
              return versions;
            };
            expect(await run(true)).toEqual(await run(false));
          },
        ),
        { numRuns: 60 },
      );
    },
  );
});

describe('parameters that take an average', () => {
  const into = model();
  const trained = into.twin();

  it.each<[unknown, RegExp]>([
    [{ into: 5 }, /momentum: average\.into: expected Parameters, got 5/],
    [{ into: trained }, /average\.into: expected a twin of the trained parameters, got themselves/],
    [{ into: model() }, /average\.into: expected parameters in the memory of the trained ones, as twin\(\) makes them/],
    [{ into, decay: 1 }, /average\.decay: expected <1, got 1/],
    [{ into, decay: { nothing: 0.5 } }, /average\.decay: expected a name or pattern that matches a parameter/],
    [{ into, after: -1 }, /momentum: average\.after: expected >=0, got -1/],
    [{ into, rate: 1 }, /momentum: average\.rate: expected no such option/],
  ])('are refused before the first event: %o', (average, message) => {
    expect(() => momentum(trained, { average: average as AverageOptions })).toThrow(message);
  });

  it('are in use while they do, and free again then', () => {
    const stay = from([batch(1)]).pipe(tap(() => expect(() => into.loadStateDict(into.stateDict())).toThrow(/one scan/)));
    stay.pipe(momentum(trained, { average: { into } })).subscribe();
    into.loadStateDict(into.stateDict());
    let failed: unknown;
    from([batch(1)])
      .pipe(
        momentum(into),
        tap(() => {
          from([batch(1)])
            .pipe(momentum(trained, { average: { into } }))
            .subscribe({ error: (error) => (failed = error) });
        }),
      )
      .subscribe();
    expect(failed).toMatchObject({ code: 'RXGRAD_PARAMETERS_IN_USE' });
    from([batch(1)])
      .pipe(momentum(trained))
      .subscribe();
  });

  it('have none where the state is of a scan without one; a scan without one refuses a state with one', async () => {
    const groups = [{ params: 'c', frozen: true }];
    const plain = model();
    from([batch(1)])
      .pipe(momentum(plain, { groups }))
      .subscribe();
    const second = model();
    const twin = second.twin();
    twin.loadStateDict(plain.stateDict());
    await follow(second, momentum, [batch(2)], { decay: 0.9 }, { trained: twin });
    expect(bitsOf(second)).toEqual(bitsOf(twin));

    const averaged = await follow(model(), momentum, [batch(1)], { decay: 0.9 });
    const other = model();
    other.loadStateDict(averaged.stateDict());
    await expect(lastValueFrom(of(batch(1)).pipe(momentum(other, { groups })))).rejects.toThrow(
      '"a.average" is no state of Momentum',
    );
  });
});
