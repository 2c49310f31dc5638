import { Parameters } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { Arena } from '../../src/kernels/arena.ts';
import { LeftRight } from '../../src/params/left-right.ts';

const nowhere = { madeAtMs: 0, topic: -1, partition: 0, offset: 0 };

/** The protocol alone: each commit is one version more. */
function protocol() {
  const leftRight = new LeftRight(new Arena(), 64);
  let version = 0;
  let flips = 0;
  leftRight.followers.add(() => (flips += 1));
  const commit = (slot: number): number => {
    leftRight.commit(slot, ++version, nowhere);
    return slot;
  };
  return { leftRight, step: () => commit(leftRight.begin()), commit, flips: () => flips };
}

describe('the side that is written', () => {
  it('is the one that readers see, where there are none, and shows what is written at once', () => {
    const { leftRight, step, flips } = protocol();
    expect([step(), step(), leftRight.live, leftRight.version(leftRight.live)]).toEqual([0, 0, 0, 2]);
    expect(leftRight.beginWhole()).toBe(0);
    expect(flips()).toBe(0);
  });

  it('is the other one beside readers, until a swap', () => {
    const { leftRight, step, flips } = protocol();
    leftRight.readers.announce();
    // The second step goes on in place: nobody can see the first.
    expect([step(), step(), leftRight.latest, leftRight.live]).toEqual([1, 1, 1, 0]);
    leftRight.show(leftRight.latest);
    expect([leftRight.live, leftRight.version(leftRight.live), flips()]).toEqual([1, 2, 1]);
    expect(step()).toBe(0);
  });

  it('is the other one where what is live is pinned, also without readers', () => {
    const { leftRight, step } = protocol();
    leftRight.pin();
    expect([step(), leftRight.live, leftRight.version(0)]).toEqual([1, 0, 0]);
    expect(leftRight.wished).toBe(1);
    leftRight.unpin();
    expect([leftRight.live, leftRight.pinned]).toEqual([1, false]);
  });

  it('stays on the newest weights while a version that was kept is shown, without readers too', () => {
    const { leftRight, step } = protocol();
    const kept = 40;
    leftRight.show(kept);
    expect([step(), step(), leftRight.live, leftRight.latest]).toEqual([0, 0, kept, 0]);
    leftRight.show(leftRight.latest);
    expect(leftRight.live).toBe(0);
  });

  it('is known as long as it is written', () => {
    const { leftRight, commit } = protocol();
    expect(leftRight.written).toBeNull();
    const slot = leftRight.begin();
    expect(leftRight.written).toBe(slot);
    commit(slot);
    expect(leftRight.written).toBeNull();
  });
});

describe('a version that cannot wait', () => {
  it('goes to the side that is free, and else to a further one, which takes the place of the one that is read', () => {
    const { leftRight, commit } = protocol();
    const own = leftRight.readers.own;
    leftRight.readers.announce();
    own.hold(1);
    const spare = leftRight.beginWhole();
    expect(spare).toBeGreaterThan(1);
    commit(spare);
    leftRight.show(spare);
    // From now on the first side and the new one are written in turn.
    expect(leftRight.beginWhole()).toBe(0);
    commit(0);
    leftRight.show(0);
    expect(leftRight.beginWhole()).toBe(spare);
    own.release(1);
  });

  it('goes to the other side where the newest weights are being read while a kept version is shown', () => {
    const { leftRight, step } = protocol();
    const own = leftRight.readers.own;
    leftRight.readers.announce();
    step();
    leftRight.show(40);
    own.hold(1);
    expect([leftRight.latest, leftRight.target, leftRight.beginWhole()]).toEqual([1, 1, 0]);
    own.release(1);
  });

  it('does not go to the other side where that will be shown once nothing is pinned any more', () => {
    const { leftRight, step, commit } = protocol();
    const own = leftRight.readers.own;
    leftRight.readers.announce();
    step();
    leftRight.pin(40);
    expect([leftRight.wished, leftRight.latest]).toEqual([0, 1]);
    own.hold(1);
    const spare = leftRight.beginWhole();
    expect(spare).toBeGreaterThan(1);
    commit(spare);
    leftRight.unpin();
    expect([leftRight.live, leftRight.version(0)]).toEqual([0, 0]);
    own.release(1);
  });
});

describe('a slot is idle', () => {
  it('where it is neither read, nor live, nor will be when nothing is pinned', () => {
    const { leftRight } = protocol();
    const idle = () => [0, 1, 40].filter((slot) => leftRight.isIdle(slot));
    expect(idle()).toEqual([1, 40]);
    leftRight.pin(40);
    expect(idle()).toEqual([1]);
    leftRight.readers.own.hold(1);
    expect(idle()).toEqual([]);
    leftRight.readers.own.release(1);
    expect(idle()).toEqual([1]);
  });
});

describe('what is frozen', () => {
  it('stays live until the last one who asked for it has thawed it, and follows then', () => {
    const { leftRight, flips } = protocol();
    leftRight.readers.announce();
    leftRight.freeze();
    leftRight.freeze();
    leftRight.show(1);
    expect(leftRight.live).toBe(0);
    leftRight.thaw();
    expect([leftRight.live, flips()]).toEqual([0, 0]);
    leftRight.thaw();
    expect([leftRight.live, flips()]).toEqual([1, 1]);
    leftRight.show(0);
    expect(leftRight.live).toBe(0);
  });

  it('is left for what is pinned, and not for what is wished while that is pinned', () => {
    const { leftRight } = protocol();
    leftRight.freeze();
    leftRight.pin(40);
    expect(leftRight.live).toBe(40);
    leftRight.thaw();
    expect(leftRight.live).toBe(40);
    leftRight.unpin();
    expect(leftRight.live).toBe(0);
  });
});

it('followers hear of each change of what is live, once, and of nothing else', () => {
  const { leftRight, flips } = protocol();
  leftRight.show(0);
  leftRight.pin();
  leftRight.unpin();
  expect(flips()).toBe(0);
  leftRight.pin(1);
  expect(flips()).toBe(1);
  leftRight.show(1);
  leftRight.unpin();
  expect(flips()).toBe(1);
  leftRight.show(0);
  expect(flips()).toBe(2);
});

it('weights that no buffer can be had for are said to be in use, with the reason', () => {
  const params = Parameters.create({ w: { dims: [2], data: [1, 2] } });
  const reader = params.reader();
  const slots = [reader.acquire()];
  params.load({ w: [3, 4] });
  slots.push(reader.acquire());
  const { arena } = params;
  const allocate = arena.allocate.bind(arena);
  const full = new Error('full');
  arena.allocate = () => {
    throw full;
  };
  const load = () => params.load({ w: [5, 6] });
  for (let i = 0; i < 40; i++) {
    expect(load).toThrow(expect.objectContaining({ code: 'RXGRAD_BUFFERS_IN_USE', cause: full }));
    expect(load).toThrow(/all 2 are being read/);
  }
  expect([params.version, ...params.get('w').data]).toEqual([1, 3, 4]);
  // What failed has used nothing up.
  arena.allocate = allocate;
  load();
  expect(reader.read(({ w }, version) => [version, ...w!])).toEqual([2, 5, 6]);
  for (const slot of slots) reader.release(slot);
});
