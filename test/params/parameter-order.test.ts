import { adam, Parameters, type ScanOptions } from 'rxgrad';
import { from } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { batchOf } from '../optimizers/batches.ts';

const specs = { a: { dims: [2], data: [1, 1] }, b: { dims: [2], data: [2, 2] }, c: { dims: [1], data: [3] } };
const gradient = { a: [0.3, -0.2], b: [0.1, 0.4], c: [-0.5] };
type Name = keyof typeof specs;

const model = (...names: Name[]): Parameters => Parameters.create(Object.fromEntries(names.map((name) => [name, specs[name]])));
const batch = (...names: Name[]) => batchOf(Object.fromEntries(names.map((name) => [name, Float32Array.from(gradient[name])])));

/** Steps parameters, whose counts then differ, and returns the state. */
function trained(options: ScanOptions): Uint8Array {
  const params = model('a', 'b', 'c');
  from([batch('a', 'b', 'c'), batch('a'), batch('a'), batch('c', 'a')])
    .pipe(adam(params, options))
    .subscribe();
  return params.stateDict();
}

/** Goes on over parameters in some order. */
function goOn(state: Uint8Array, options: ScanOptions, ...names: Name[]): Record<string, number[]> {
  const params = model(...names);
  params.loadStateDict(state, { exact: true });
  let error: unknown;
  from([batch('a', 'b', 'c'), batch('b')])
    .pipe(adam(params, options))
    .subscribe({ error: (cause: unknown) => (error = cause) });
  if (error) throw error;
  return Object.fromEntries(['a', 'b', 'c'].map((name) => [name, [...params.get(name).data]]));
}

describe('a state goes on over parameters in another order', () => {
  it.each<[string, ScanOptions]>([
    ['step counts', { lr: 0.1 }],
    ['frozen parameters', { lr: 0.1, groups: [{ params: 'a', frozen: true }] }],
    ['rates of groups', { lr: 0.1, groups: [{ params: ['c', 'a'], lr: 0.5 }] }],
  ])('with the same %s', (_, options) => {
    const state = trained(options);
    const same = goOn(state, options, 'a', 'b', 'c');
    expect(goOn(state, options, 'b', 'c', 'a')).toEqual(same);
    expect(goOn(state, options, 'c', 'a', 'b')).toEqual(same);
  });

  it('and is refused where what it lists is not of its own parameters', () => {
    const state = trained({ lr: 0.1 });
    const text = Buffer.from(state).toString('latin1').replace(String.raw`\"counts\":[4,1,2]`, String.raw`\"counts\":[4,1]  `);
    const params = model('a', 'b', 'c');
    params.loadStateDict(Buffer.from(text, 'latin1'));
    let error: unknown;
    from([batch('a')])
      .pipe(adam(params))
      .subscribe({ error: (cause: unknown) => (error = cause) });
    expect(error).toMatchObject({ code: 'RXGRAD_INVALID_CHECKPOINT' });
  });
});
