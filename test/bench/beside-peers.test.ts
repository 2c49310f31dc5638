import { describe, expect, it } from 'vitest';
import { fastestOf, type Own, raceBesidePeers } from '../../bench/beside-peers.ts';
import type { Peers, Prepared } from '../../bench/peers.ts';

const problem = { rule: 'adam', mode: 'alone', size: 4 } as const;
const nothing = { steps: 0, ready: {}, failed: {} };
const lapNs = 50e6;

/** A step that adds 1 and −2 to its weights. */
function counting(taken: () => void = () => {}, closed: () => void = () => {}): Own {
  const data = new Float32Array(2);
  const take = (): void => {
    taken();
    data[0]! += 1;
    data[1]! -= 2;
  };
  return { params: [{ data }], step: { take, close: closed } };
}

function peersWith(prepared: Prepared, lap: Peers['lap'] = async () => lapNs): Peers {
  return { prepare: async () => prepared, lap, describe: gone as never, close: async () => {} };
}

function gone(): Promise<number> {
  return Promise.reject(new Error('gone'));
}

describe('raceBesidePeers', () => {
  it('lets those take part who have the weights of the first one after the same steps, and names the others', async () => {
    const ready = {
      torch: { way: 'held', weights: [3, -6] },
      optax: { way: 'viewed', weights: [3.001, -6] },
      other: { way: 'held', weights: [3.1, -6] },
      idle: { way: 'held', weights: [0, 0] },
    };
    const peers = peersWith({ steps: 3, ready, failed: { jax: 'ImportError: x' } });
    const { laps, notRun } = await raceBesidePeers({ rxgrad: counting() }, peers, problem, { rounds: 2 });
    expect(Object.keys(laps)).toEqual(['rxgrad', 'torch', 'optax, viewed']);
    expect(laps.torch).toEqual([lapNs, lapNs]);
    expect(notRun).toEqual([
      'jax: ImportError: x',
      "other: expected rxgrad's weights after 3 steps, got 3.1, -6, …",
      "idle: expected rxgrad's weights after 3 steps, got 0, 0, …",
    ]);
  });

  it('lets each step settle before the race, and closes it after', async () => {
    const log: string[] = [];
    const own = (name: string): Own => {
      return counting(
        () => log.push(name),
        () => log.push(`${name} closed`),
      );
    };
    const peers = peersWith({ ...nothing, steps: 2 });
    await raceBesidePeers({ a: own('a'), b: own('b') }, peers, problem, { rounds: 1, settling: 3 });
    expect(log.slice(0, 9).join(' ')).toBe('a a a a a b b b a');
    expect(log.slice(-2)).toEqual(['a closed', 'b closed']);
  });

  it.each([
    ['are none', null, problem],
    ['have no such step', peersWith({ ...nothing, failed: { torch: 'never' } }), null],
  ])('goes on where peers %s', async (_, peers, problem) => {
    const { laps, notRun } = await raceBesidePeers({ rxgrad: counting() }, peers, problem, { rounds: 1 });
    expect([Object.keys(laps), notRun]).toEqual([['rxgrad'], []]);
  });

  it.each([
    ['prepare', { ...peersWith(nothing), prepare: gone as never }],
    ['take a lap', peersWith({ ...nothing, ready: { torch: { way: 'held', weights: [1] } }, steps: 1 }, gone)],
  ])('goes on, and tells why, where peers cannot %s', async (_, peers) => {
    const { laps, notRun } = await raceBesidePeers({ rxgrad: counting() }, peers, problem, { rounds: 1 });
    expect([Object.keys(laps), notRun]).toEqual([['rxgrad'], ['peers: gone']]);
  });
});

describe('fastestOf', () => {
  it('is the one with the least median', () => {
    expect(fastestOf({ a: [1, 9, 9], b: [5, 6, 70], c: [1, 1, 1] }, ['a', 'b'])).toBe('b');
    expect(fastestOf({}, [])).toBeUndefined();
  });
});
