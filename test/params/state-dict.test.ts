import { readFileSync } from 'node:fs';
import {
  epochBoundary,
  gradientBatch,
  isRxgradError,
  metricReport,
  Parameters,
  type ScanOptions,
  type TrainingEvent,
} from 'rxgrad';
import { from, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { planTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import { batch, bitsOf, model, type Scan, scans } from '../optimizers/batches.ts';

// Epochs, a metric, a worker's sequence, and parameters that are left out: all that a scan has to remember.
const before: TrainingEvent[] = [
  batch(1, { worker: 'w', sequence: 4 }),
  metricReport({ name: 'loss', value: 3 }),
  epochBoundary(0),
  batch(-2, { worker: 'w', sequence: 5 }, ['a', 'c']),
  metricReport({ name: 'loss', value: 3 }),
];
const after: TrainingEvent[] = [
  batch(9, { worker: 'w', sequence: 5 }),
  epochBoundary(0),
  epochBoundary(1),
  batch(0.5, { worker: 'w', sequence: 6 }),
  metricReport({ name: 'loss', value: 3 }),
  epochBoundary(2),
  batch(3),
  batch(-1, {}, ['b']),
];

const plateau = { type: 'ReduceLROnPlateau', baseLr: 0.1, patience: 0, factor: 0.5 } as const;
const step = { type: 'StepLR', baseLr: 0.05, stepSize: 1, gamma: 0.7 } as const;
const settings: [string, ScanOptions][] = [
  ['a rate that follows a metric', { lr: plateau }],
  [
    'groups',
    {
      lr: 0.1,
      groups: [
        { params: 'b', lr: step },
        { params: 'c', frozen: true },
      ],
    },
  ],
  ['ticks with every step', { lr: step, tickOn: 'step' }],
];

function run(params: Parameters, scan: Scan, options: ScanOptions, events: readonly TrainingEvent[]) {
  const seen: object[] = [];
  from(events)
    .pipe(scan(params, options))
    .subscribe(({ version, step, epoch, lr }) => seen.push({ version, step, epoch, lr }));
  return seen;
}

describe.each(scans)('%s', (_, scan) => {
  it.each(settings)('goes on from a state dict with the same bits: %s', (_, options) => {
    const whole = model();
    const facts = run(whole, scan, options, [...before, ...after]);

    const first = model();
    const firstFacts = run(first, scan, options, before);
    const second = Parameters.create({ a: { dims: [2, 3] }, b: { dims: [3] }, c: { dims: [] } });
    second.loadStateDict(first.stateDict());
    expect(bitsOf(second)).toEqual(bitsOf(first));
    expect(second.stateDict()).toEqual(first.stateDict());
    expect([...firstFacts, ...run(second, scan, options, after)]).toEqual(facts);
    expect(bitsOf(second)).toEqual(bitsOf(whole));
    expect(second.stateDict()).toEqual(whole.stateDict());
  });
});

const momentum = scans.find(([name]) => name === 'Momentum {}')![1];
const adam = scans.find(([name]) => name === 'Adam {}')![1];

describe('a state dict', () => {
  it('can be asked for in the middle of a run, where an update arrives', () => {
    const params = model();
    let middle: Uint8Array | undefined;
    from([batch(1), batch(2), batch(3)])
      .pipe(momentum(params))
      .subscribe(({ version }) => {
        if (version === 2) middle = params.stateDict();
      });
    const resumed = model();
    resumed.loadStateDict(middle!);
    from([batch(3)])
      .pipe(momentum(resumed))
      .subscribe();
    expect(bitsOf(resumed)).toEqual(bitsOf(params));
    expect(resumed.version).toBe(3);
  });

  it('is taken up by one subscription; the next starts afresh, as ever', () => {
    const saved = model();
    from([batch(1)])
      .pipe(momentum(saved))
      .subscribe();
    const params = model();
    params.loadStateDict(saved.stateDict());
    const fresh = model();
    fresh.load(Object.fromEntries([...saved].map(({ name, data }) => [name, data])));
    from([]).pipe(momentum(params)).subscribe();
    for (const each of [params, fresh])
      from([batch(1)])
        .pipe(momentum(each))
        .subscribe();
    expect(bitsOf(params)).toEqual(bitsOf(fresh));
  });

  it('names tensors as torch does', () => {
    const params = model();
    from([batch(1)])
      .pipe(adam(params))
      .subscribe();
    const file = Buffer.from(params.stateDict());
    const header = JSON.parse(file.toString('utf8', 8, 8 + Number(file.readBigUInt64LE(0))));
    expect(Object.keys(header).toSorted()).toEqual(
      [
        '__metadata__',
        'a',
        'b',
        'c',
        ...['a', 'b', 'c'].flatMap((p) => [`state.${p}.exp_avg`, `state.${p}.exp_avg_sq`]),
      ].toSorted(),
    );
    expect(header['state.a.exp_avg']).toMatchObject({ dtype: 'F32', shape: [2, 3] });
  });
});

const fixture = (name: string): string => new URL(`fixtures/${name}.safetensors`, import.meta.url).pathname;

describe('what does not fit', () => {
  const saved = (specs: Record<string, { dims: number[] }>): Uint8Array => Parameters.create(specs).stateDict();

  it('is said of every parameter, and changes nothing', () => {
    const params = model();
    const bits = bitsOf(params);
    const other = saved({ a: { dims: [3, 2] }, d: { dims: [1] }, c: { dims: [] } });
    expect(() => params.loadStateDict(other)).toThrow(
      expect.objectContaining({
        code: 'RXGRAD_PARAMETERS_DIFFER',
        message: expect.stringMatching(/"a" has dims \[2,3\], got \[3,2\]; "d" is no parameter.*; "b" \[3\] is missing/),
      }),
    );
    expect(bitsOf(params)).toEqual(bits);
    params.loadStateDict(other, { strict: false });
    expect(params.get('c').data[0]).toBe(0);
    expect(bitsOf(params).slice(0, 9)).toEqual(bits.slice(0, 9));
  });

  it('is what names its weights otherwise, where parameters are to be made of it', () => {
    const tensors = [['w', { dims: [2], data: Float32Array.of(3, 4) }]] as const;
    const made = (weights: string | null) => () =>
      Parameters.fromStateDict(
        writeTensorFile(
          planTensorFile(tensors, {
            'rxgrad.format': '2',
            'rxgrad.version': '7',
            ...(weights === null ? {} : { 'rxgrad.weights': weights }),
          }),
        ),
      );
    for (const weights of [null, '["w", "v"]', '[5]', '5', '{}', '["w"'])
      expect(made(weights)).toThrow(/expected a state dict of rxgrad, which names its weights/);
    expect([...made('["w"]')().get('w').data]).toEqual([3, 4]);
  });

  it('is what a file of rxgrad would not hold, though one of others might', () => {
    const params = Parameters.create({ a: { dims: [1] }, 'a.b': { dims: [1] } });
    const file = (name: string, own: boolean) => {
      const tensors = ['a', 'a.b', name].map((each) => [each, { dims: [1], data: Float32Array.of(1) }] as const);
      return writeTensorFile(planTensorFile(tensors, own ? { 'rxgrad.format': '2', 'rxgrad.version': '1' } : {}));
    };
    for (const name of [
      'module.a.b',
      'velocity.a.b',
      'state.other.exp_avg',
      'lr',
      'state.a.',
      'state.a.b.',
      'state.exp_avg',
      'xstate.a.b.exp_avg',
    ]) {
      expect(() => params.loadStateDict(file(name, true))).toThrow(`"${name}" is no parameter, nor an optimizer's state of one`);
    }
    params.loadStateDict(file('module.a.b', false));
    params.loadStateDict(file('state.a.b.any_key', true));
    expect(params.version).toBe(1);
  });

  it('is a state that is no JSON object', () => {
    const file = (state: string) =>
      writeTensorFile(
        planTensorFile([['w', { dims: [1], data: Float32Array.of(1) }]], {
          'rxgrad.format': '2',
          'rxgrad.version': '1',
          'rxgrad.state': state,
        }),
      );
    for (const state of ['{', '5', 'null', '"x"']) {
      expect(() => Parameters.create({ w: { dims: [1] } }).loadStateDict(file(state))).toThrow(
        expect.objectContaining({
          code: 'RXGRAD_INVALID_CHECKPOINT',
          message: expect.stringContaining(`expected JSON as rxgrad.state, got ${state}`),
        }),
      );
    }
  });

  it('is a count of steps that goes with no state: the next scan begins anew', () => {
    const counted = (tensors: Record<string, number>): number[] => {
      const params = Parameters.create({ w: { dims: [1] } });
      const all = Object.entries({ w: 1, ...tensors }).map(
        ([name, value]) => [name, { dims: [1], data: Float32Array.of(value) }] as const,
      );
      params.loadStateDict(writeTensorFile(planTensorFile(all, {})));
      from([gradientBatch({ gradients: { w: Float32Array.of(1) } })])
        .pipe(adam(params))
        .subscribe({ error: (error) => expect.unreachable(String(error)) });
      return [...params.get('w').data];
    };
    expect(counted({ step: 500 })).toEqual(counted({}));
  });

  it('is a file of a format that is not known yet', () => {
    const params = Parameters.create({ w: { dims: [2] } });
    const written = (format: string) => {
      const facts = { 'rxgrad.format': format, 'rxgrad.version': '7', 'rxgrad.weights': '["w"]' };
      return writeTensorFile(planTensorFile([['w', { dims: [2], data: Float32Array.of(3, 4) }]], facts));
    };
    expect(() => params.loadStateDict(written('3'))).toThrow(
      expect.objectContaining({ code: 'RXGRAD_NEWER_FORMAT', message: expect.stringMatching(/format 2.*format 3/) }),
    );
    expect(() => params.loadStateDict(written('12'))).toThrow(expect.objectContaining({ code: 'RXGRAD_NEWER_FORMAT' }));
    expect([params.version, ...params.get('w').data]).toEqual([0, 0, 0]);
    for (const none of ['0', 'x', '1.5', '1x', '']) {
      expect(() => params.loadStateDict(written(none))).toThrow(
        expect.objectContaining({
          code: 'RXGRAD_INVALID_CHECKPOINT',
          message: `state dict: expected a format up to 2, got format ${none}`,
        }),
      );
    }
    for (const format of ['1', '2']) {
      const known = Parameters.create({ w: { dims: [2] } });
      known.loadStateDict(written(format));
      expect([known.version, ...known.get('w').data]).toEqual([7, 3, 4]);
    }
  });

  it('fails a scan by another rule before its first step, by name', () => {
    const source = model();
    from([batch(1)])
      .pipe(momentum(source))
      .subscribe();
    const params = model();
    params.loadStateDict(source.stateDict());
    let error: unknown;
    from([batch(1)])
      .pipe(adam(params))
      .subscribe({ error: (reason) => (error = reason) });
    expect(error).toMatchObject({
      code: 'RXGRAD_PARAMETERS_DIFFER',
      message: expect.stringContaining('the state is of Momentum, the scan of Adam'),
    });
    expect(bitsOf(params)).toEqual(bitsOf(source));
    from([batch(1)])
      .pipe(adam(params))
      .subscribe();
    expect(params.version).toBe(2);
  });

  it('fails a scan with other groups by name, and is taken up as far as it goes where it need not fit', () => {
    const source = model();
    const frozen = [{ params: 'c', frozen: true }];
    from([batch(1), batch(2)])
      .pipe(adam(source, { groups: frozen }))
      .subscribe();
    const params = model();
    params.loadStateDict(source.stateDict());
    let error: unknown;
    from([batch(1)])
      .pipe(adam(params, { groups: [{ params: 'a', lr: 0.5 }] }))
      .subscribe({ error: (reason) => (error = reason) });
    const words =
      '"a" is stepped at the rate of all in the state, stepped at rate 1 of those that groups have in the scan; ' +
      '"c" is frozen in the state, stepped at the rate of all in the scan';
    expect(error).toMatchObject({ message: expect.stringContaining(words) });

    params.loadStateDict(source.stateDict(), { strict: false });
    from([batch(3)])
      .pipe(adam(params))
      .subscribe();
    const whole = model();
    from([batch(1), batch(2), batch(3)])
      .pipe(adam(whole, { groups: frozen }))
      .subscribe();
    expect(params.get('a').data).toEqual(whole.get('a').data);
    expect(params.get('c').data).not.toEqual(whole.get('c').data);
  });

  it('fails a scan whose state is not all there', () => {
    const params = model();
    params.loadStateDict(fixture('mixed-types'));
    let error: unknown;
    from([batch(1)])
      .pipe(adam(params))
      .subscribe({ error: (reason) => (error = reason) });
    expect(isRxgradError(error) && error.message).toContain('"a.exp_avg_sq" [2,3], which is missing');
    expect(isRxgradError(error) && error.message).toContain('"b.momentum_buffer" is no state of Adam');
  });

  it('is refused while a scan is under way', () => {
    const params = model();
    const events$ = new Subject<TrainingEvent>();
    const subscription = events$.pipe(momentum(params)).subscribe();
    expect(() => params.loadStateDict(model().stateDict())).toThrow(
      expect.objectContaining({ code: 'RXGRAD_PARAMETERS_IN_USE' }),
    );
    subscription.unsubscribe();
    params.loadStateDict(model().stateDict());
  });

  it('is said of files that are damaged, wherever they are cut or changed', () => {
    const source = model();
    from([batch(1)])
      .pipe(adam(source))
      .subscribe();
    const file = Buffer.from(source.stateDict());
    for (let length = 0; length < file.byteLength; length += 7) {
      expect(() => model().loadStateDict(file.subarray(0, length))).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^RXGRAD_/) }),
      );
    }
    const headerBytes = Number(file.readBigUInt64LE(0));
    for (let at = 0; at < 8 + headerBytes; at++) {
      const changed = Buffer.from(file);
      changed[at] = changed[at]! ^ 0x15;
      try {
        const params = model();
        params.loadStateDict(changed);
        from([batch(1)])
          .pipe(adam(params))
          .subscribe({ error: () => {} });
      } catch (error) {
        expect(isRxgradError(error), String(error)).toBe(true);
      }
    }
  });

  it.each([
    ['a header that is longer than any', 2n ** 62n],
    ['a header of a gigabyte', 10n ** 9n],
  ])('%s is refused before anything is allocated', (_, length) => {
    const file = Buffer.alloc(64);
    file.writeBigUInt64LE(length, 0);
    expect(() => model().loadStateDict(file)).toThrow(/header of at most 100000000 bytes/);
  });
});

it('reads a path as it reads bytes', () => {
  const [fromPath, fromBytes] = [model(), model()];
  fromPath.loadStateDict(fixture('torch-adam'));
  fromBytes.loadStateDict(readFileSync(fixture('torch-adam')));
  expect(bitsOf(fromPath)).toEqual(bitsOf(fromBytes));
  expect(() => model().loadStateDict('nowhere.safetensors')).toThrow(/nowhere.safetensors/);
});
