import {
  clipByGlobalNorm,
  epochBoundary,
  optimizer,
  Parameters,
  type RuleConfig,
  type ScanOptions,
  stepLR,
  type TrainingEvent,
} from 'rxgrad';
import { of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batch, batchOf, model, type Scan, scans } from './batches.ts';

const events: TrainingEvent[] = [batch(1), batch(-2), epochBoundary(0), batch(0.5), batch(3)];

/** The bits of one parameter. */
const bitsOfOne = (params: Parameters, name: string): number[] => [...new Uint32Array(params.get(name).data.slice().buffer)];

function trained(scan: Scan, options?: ScanOptions): Parameters {
  const params = model();
  of(...events)
    .pipe(scan(params, options))
    .subscribe();
  return params;
}

describe.each(scans)('%s', (_, scan) => {
  it('never moves a frozen group, and steps the rest as ever', () => {
    const params = trained(scan, { groups: [{ params: ['a', 'c'], frozen: true }] });
    const free = trained(scan);
    for (const name of ['a', 'c']) expect(bitsOfOne(params, name)).toEqual(bitsOfOne(model(), name));
    expect(bitsOfOne(params, 'b')).toEqual(bitsOfOne(free, 'b'));
    expect(bitsOfOne(free, 'a')).not.toEqual(bitsOfOne(model(), 'a'));
  });

  it('steps a group at its own rate, as if all had it', () => {
    const rate = stepLR({ baseLr: 0.02, stepSize: 1, gamma: 0.5 });
    const params = trained(scan, { lr: 0.1, groups: [{ params: 'b', lr: rate }] });
    expect(bitsOfOne(params, 'b')).toEqual(bitsOfOne(trained(scan, { lr: rate }), 'b'));
    for (const name of ['a', 'c']) expect(bitsOfOne(params, name)).toEqual(bitsOfOne(trained(scan, { lr: 0.1 }), name));
  });
});

it('counts the gradients of frozen parameters in the one norm of all', () => {
  const params = model();
  const gradients = { a: new Float32Array(6), b: Float32Array.of(3, 0, 0), c: Float32Array.of(4) };
  of(batchOf(gradients))
    .pipe(optimizer(params, { type: 'SGD', lr: 1, gradClipNorm: 1, groups: [{ params: 'c', frozen: true }] }))
    .subscribe(({ gradientNorm, clipped }) => expect({ gradientNorm, clipped }).toEqual({ gradientNorm: 5, clipped: true }));
  expect(params.get('b').data[0]).toBeCloseTo(0.5 - 3 / 5, 6);
  expect(params.get('c').data[0]).toBe(7);
});

describe('a config with groups', () => {
  const weightsOf = (config: Omit<RuleConfig, 'type' | 'lr'>, type: 'SGD' | 'AdamW' = 'SGD'): Parameters => {
    const params = Parameters.create({ 'x.weight': { dims: [2], data: [1, 2] }, 'x.bias': { dims: [1], data: [4] } });
    of(batchOf({ 'x.weight': Float32Array.of(6, 0), 'x.bias': Float32Array.of(8) }))
      .pipe(optimizer(params, { type, lr: 0.5, ...config } as RuleConfig))
      .subscribe();
    return params;
  };
  const values = (params: Parameters): number[] => [...params].flatMap(({ data }) => [...data]);

  it('gives a group its own decay, coupled', () => {
    const config = { weightDecay: 0.5, groups: [{ params: '*.bias', weightDecay: 0 }] };
    expect(values(weightsOf(config))).toEqual([1 - 0.5 * 6.5, 2 - 0.5 * 1, 4 - 0.5 * 8]);
    expect(values(weightsOf({ weightDecay: { '*.bias': 0, '*': 0.5 } }))).toEqual(values(weightsOf(config)));
  });

  it('gives a group its own decay, decoupled, and leaves the rest the default', () => {
    const ungrouped = values(weightsOf({}, 'AdamW'));
    const grouped = values(weightsOf({ groups: [{ params: '*.bias', weightDecay: 0 }] }, 'AdamW'));
    expect(grouped.slice(0, 2)).toEqual(ungrouped.slice(0, 2));
    expect(grouped[2]).toBeCloseTo(ungrouped[2]! + 0.5 * 0.01 * 4, 6);
  });

  it('holds each group against the one norm of all', () => {
    // The norm is 10.
    expect(values(weightsOf({ gradClipNorm: 5, groups: [{ params: 'x.bias', gradClipNorm: 1 }] }))).toEqual([
      1 - 0.5 * 3,
      2,
      Math.fround(4 - 0.5 * Math.fround(0.8)),
    ]);
    expect(values(weightsOf({ groups: [{ params: 'x.bias', gradClipNorm: 5 }] }))).toEqual([1 - 0.5 * 6, 2, 4 - 0.5 * 4]);
  });

  it('limits the elements of a group by its own limit', () => {
    expect(values(weightsOf({ gradClipValue: 2, groups: [{ params: 'x.*ght', gradClipValue: 1 }] }))).toEqual([0.5, 2, 3]);
  });

  it.each([
    [{ groups: [{ params: 'y.*', weightDecay: 0 }] }, 'groups.0.params: expected a name or pattern that matches a parameter'],
    [{ groups: [{ params: 'x.*' }, { params: 'x.bias' }] }, 'groups.1.params: expected each parameter in one group'],
    [{ groups: [{ params: [] }] }, 'groups.0.params: expected at least one name or pattern'],
    [{ groups: [{ params: 'x.bias', weightDecay: -1 }] }, 'optimizer: groups.0.weightDecay: expected >=0, got -1'],
    [{ groups: [{ params: 'x.bias', momentum: 0.5 }] }, 'optimizer: groups.0.momentum: expected no such option'],
    [{ groups: [{ params: 'x.bias', lr: 0 }] }, 'lr: expected >0, got 0'],
    [{ weightDecay: { '*.scale': 0 } }, 'optimizer: weightDecay: expected a name or pattern that matches a parameter'],
    [{ gradClipNorm: { 'x.*': 0 } }, 'optimizer: gradClipNorm: x.*: expected >0, got 0'],
  ])('%o is refused before the first event', (config, message) => {
    expect(() => weightsOf(config as never)).toThrow(
      expect.objectContaining({ code: 'RXGRAD_INVALID_OPTION', message: expect.stringContaining(message) }),
    );
  });
});

it('takes a limit by pattern in a stage too, from the one norm', () => {
  const params = model();
  of(batchOf({ a: new Float32Array(6), b: Float32Array.of(3, 0, 0), c: Float32Array.of(4) }))
    .pipe(clipByGlobalNorm({ c: 1 }), optimizer(params, { type: 'SGD', lr: 1 }))
    .subscribe();
  expect(params.get('b').data[0]).toBe(-2.5);
  expect(params.get('c').data[0]).toBeCloseTo(7 - 4 / 5, 6);
});
