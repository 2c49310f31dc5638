import { addDecayedWeights, adam as amsgrad, gradientBatch, Parameters } from 'rxgrad';
import { from, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { meaningOf } from '../../src/params/foreign-names.ts';
import { planTensorFile, writeTensorFile } from '../../src/params/tensor-file.ts';
import { batch, model, type Scan, scans } from '../optimizers/batches.ts';

const momentum = scans.find(([name]) => name === 'Momentum {}')![1];
const adam = scans.find(([name]) => name === 'Adam {}')![1];
const lengths: Readonly<Record<string, readonly number[]>> = { a: [2, 3], b: [3], c: [] };

const fixture = (name: string): string => new URL(`fixtures/${name}.safetensors`, import.meta.url).pathname;

describe('checkpoints of others', () => {
  // Three steps of torch.optim.Adam over `model()` with the gradients of `batch(1)`, `batch(-2)`, `batch(0.5)` at a rate of 0.1,
  // saved by safetensors.torch.save_file as state.<name>.<key>; expected: its weights after one more with `batch(3)`.
  it('torch: weights and the state of Adam, which goes on as torch would', () => {
    const params = model();
    params.loadStateDict(fixture('torch-adam'));
    from([batch(3)])
      .pipe(adam(params, { lr: 0.1 }))
      .subscribe();
    const expected = {
      a: [0.910869479, -2.0891304, 2.9108696, -4.08913088, 4.91086912, -6.08913088],
      b: [0.41086942, -0.089130566, -0.58913058],
      c: [6.91086912],
    };
    for (const [name, values] of Object.entries(expected)) {
      for (const [i, value] of values.entries()) expect(params.get(name).data[i]).toBeCloseTo(value, 5);
    }
  });

  // a in F16, b in BF16, c in F64; the velocity as velocity.a, optimizer.b.velocity and c.trace.
  it('any float type, and velocity by any of its names', () => {
    const params = model();
    params.loadStateDict(fixture('mixed-types'));
    const start = Object.fromEntries([...params].map(({ name, data }) => [name, [...data]]));
    expect(start).toEqual({
      a: [0.9501953125, -2.048828125, 2.951171875, -4.05078125, 4.94921875, -6.05078125],
      b: [0.451171875, -0.0498046875, -0.55078125],
      c: [Math.fround(6.950279235839844)],
    });
    from([batch(0)])
      .pipe(momentum(params, { lr: 1 }))
      .subscribe();
    // Its velocity was 0.049 times 1, 2, … with a minus.
    for (const { name, data } of params) {
      for (const [i, value] of data.entries()) expect(value).toBeCloseTo(start[name]![i]! + 0.9 * 0.049 * (i + 1), 5);
    }
  });

  // Three steps of braintools 0.3.0's optimizer over `model()` with the gradients of `batch(1)`, `batch(-2)`, `batch(0.5)` at a rate
  // of 0.1; its state_dict() flattened with a point between the keys. Expected: its weights after one more with `batch(3)`.
  it.each<[string, Scan, Record<string, number[]>]>([
    [
      'braintools-adam',
      (params, options) => adam(params, options),
      {
        a: [0.9108701348304749, -2.089130163192749, 2.910869836807251, -4.08912992477417, 4.91087007522583, -6.08912992477417],
        b: [0.4108700454235077, -0.08912993222475052, -0.5891299247741699],
        c: [6.91087007522583],
      },
    ],
    [
      'braintools-momentum',
      (params, options) => pipe(addDecayedWeights(0.01), momentum(params, options)),
      {
        a: [
          0.794257402420044, -2.3753445148468018, 2.382772445678711, -4.7506890296936035, 3.971287488937378, -7.126032829284668,
        ],
        b: [0.2987750768661499, -0.39341476559638977, -1.0856044292449951],
        c: [6.740046501159668],
      },
    ],
  ])('%s: weights, state and counts, which go on as braintools would', (name, scan, expected) => {
    const params = model();
    params.loadStateDict(fixture(name));
    from([batch(3)])
      .pipe(scan(params, { lr: 0.1 }))
      .subscribe();
    for (const [name, values] of Object.entries(expected)) {
      for (const [i, value] of values.entries()) expect(params.get(name).data[i]).toBeCloseTo(value, 5);
    }
  });

  it('say by name what nobody here can take', () => {
    const [scalar, flag] = [{ dims: [], data: Float32Array.of(1) }, Buffer.from([1])];
    const weights = Object.entries(lengths).map(([name, dims]) => [
      `module.${name}`,
      { dims, data: new Float32Array(dims.reduce((size, dim) => size * dim, 1)) },
    ]);
    const file = writeTensorFile(
      planTensorFile(Object.entries({ ...Object.fromEntries(weights), 'bn.running_mean': scalar }), {}),
    );
    const params = model();
    expect(() => params.loadStateDict(file)).toThrow('"bn.running_mean" is no parameter, nor an optimizer\'s state of one');
    params.loadStateDict(file, { strict: false });
    expect(params.get('c').data[0]).toBe(0);

    const header = Buffer.from('{"mask":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}');
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.byteLength));
    expect(() => params.loadStateDict(Buffer.concat([length, header, flag]))).toThrow(
      '"mask" is of a type that no weights have (BOOL)',
    );
  });

  it("keep a parameter's own count of steps where there is one for all, too", () => {
    const stepped = (counts: Record<string, number>): number => {
      const params = Parameters.create({ w: { dims: [1] } });
      const one = { dims: [1], data: Float32Array.of(1) };
      const tensors = Object.entries(counts).map(([name, count]) => [name, { dims: [1], data: Float32Array.of(count) }] as const);
      const moments = { 'state.w.exp_avg': one, 'state.w.exp_avg_sq': one };
      const file = planTensorFile([...Object.entries({ w: one, ...moments }), ...tensors], {});
      params.loadStateDict(writeTensorFile(file));
      from([gradientBatch({ gradients: { w: Float32Array.of(1) } })])
        .pipe(adam(params, { lr: 0.1 }))
        .subscribe();
      return params.get('w').data[0]!;
    };
    const own = stepped({ 'state.w.step': 2 });
    expect(stepped({ step: 2 })).toBe(own);
    expect(stepped({ step: 500 })).not.toBe(own);
    expect(stepped({ 'state.w.step': 2, step: 500 })).toBe(own);
  });

  it("keep torch's amsgrad apart, which does not correct the largest moment", () => {
    const params = Parameters.create({ w: { dims: [1] } });
    const one = { dims: [1], data: Float32Array.of(1) };
    const state = ['exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'step'].map((key) => [`state.w.${key}`, one]);
    params.loadStateDict(writeTensorFile(planTensorFile(Object.entries({ w: one, ...Object.fromEntries(state) }), {})));
    let error: unknown;
    from([gradientBatch({ gradients: { w: Float32Array.of(1) } })])
      .pipe(amsgrad(params, { amsgrad: true }))
      .subscribe({ error: (reason) => (error = reason) });
    expect(error).toMatchObject({ message: expect.stringContaining('"w.max_exp_avg_sq" is no state of Adam') });
  });
});

describe('a name in a checkpoint of others', () => {
  const parameters = new Set(['w', 'dense.weight', 'dense.bias', 'state']);

  it.each([
    ['w', 'weights w'],
    ['dense.weight', 'weights dense.weight'],
    ['module.dense.weight', 'weights dense.weight'],
    ['model_state_dict.w', 'weights w'],
    ['param_groups.0.params.dense.bias', 'weights dense.bias'],
    ['state', 'weights state'],
    ['state.w.exp_avg', 'state w exp_avg'],
    ['optimizer.state.dense.weight.momentum_buffer', 'state dense.weight momentum_buffer'],
    ['velocity.dense.weight', 'state dense.weight momentum_buffer'],
    ['opt_state.2.trace.dense.weight', 'state dense.weight momentum_buffer'],
    ['opt_state.inner_state.0.nu.w', 'state w exp_avg_sq'],
    ['w.velocity', 'state w momentum_buffer'],
    ['optimizer.0.dense.weight.mu', 'state dense.weight exp_avg'],
    ['state_dict.dense.bias.acc_delta', 'state dense.bias acc_delta'],
    ['square.w', 'state w exp_avg_sq'],
    ['mean.w', 'state w exp_avg'],
    ['w.count', 'state w step'],
    ['model.optimizer.w', 'weights w'],
    ['optimizer.model.w', 'weights w'],
    ['module.velocity.w', 'nothing'],
    ['other.velocity.w', 'nothing'],
    ['other.w.velocity', 'nothing'],
    ['module.other.w', 'nothing'],
    ['optimizer.w', 'nothing'],
    ['velocity.other', 'nothing'],
    ['velocity', 'nothing'],
    ['module.layer1.w', 'nothing'],
    ['module.1st.w', 'nothing'],
    ['module.12.w', 'weights w'],
    ['layer1.velocity.w', 'nothing'],
    ['1st.velocity.w', 'nothing'],
    ['12.velocity.w', 'state w momentum_buffer'],
    ['layer1.count', 'nothing'],
    ['1st.count', 'nothing'],
    ['opt_state.12.count', 'count'],
    ['opt_state.0.count', 'count'],
    ['optimizer.1.step', 'count'],
    ['params.count', 'count'],
    ['other.count', 'nothing'],
    ['optimizer.base_lr', 'option'],
    ['optimizer.param_groups.12.initial_lr', 'option'],
    ['step_count', 'count'],
    ['param_groups.0.weight_decay', 'option'],
    ['lr', 'option'],
    ['other.w', 'nothing'],
    ['weight', 'nothing'],
    ['dense.weight.other', 'nothing'],
    ['other.lr', 'nothing'],
    ['', 'nothing'],
    ['.', 'nothing'],
  ])('%s stands for %s', (name, expected) => {
    expect(Object.values(meaningOf(name, parameters) ?? { kind: 'nothing' }).join(' ')).toBe(expected);
  });
});
