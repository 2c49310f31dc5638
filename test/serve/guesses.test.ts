import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Guesses } from '../../src/serve/guesses.ts';

const token = 'a-token-of-this-server';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  return () => vi.useRealTimers();
});

/** How many of so many wrong ones are looked at. */
function guess(guesses: Guesses, address: string, times: number): number {
  let looked = 0;
  for (let i = 0; i < times; i++) {
    try {
      expect(guesses.isRight(`wrong-${i}`, address)).toBe(false);
      looked += 1;
    } catch (error) {
      expect(error).toMatchObject({ key: 'tooManyGuesses', status: 429, disposition: 'retry' });
    }
  }
  return looked;
}

describe('guesses of the token', () => {
  it('ten of an address are looked at in a minute, and not even the right one after them', () => {
    const refused = vi.fn();
    const guesses = new Guesses(token, refused);
    expect(guesses.isRight(token, '10.0.0.1')).toBe(true);
    expect(guess(guesses, '10.0.0.1', 2000)).toBe(10);
    expect(guesses.figures).toEqual({ wrong: 10, refused: 1990 });
    expect(refused).toHaveBeenCalledTimes(1990);
    vi.advanceTimersByTime(29_500);
    expect(() => guesses.isRight(token, '10.0.0.1')).toThrow('Try again in 31 s');
    vi.advanceTimersByTime(30_500);
    expect(guesses.isRight(token, '10.0.0.1')).toBe(true);
    expect(guess(guesses, '10.0.0.1', 20)).toBe(10);
  });

  it('those of one address keep no other out', () => {
    const guesses = new Guesses(token);
    guess(guesses, '10.0.0.1', 2000);
    expect(guesses.isRight(token, '10.0.0.2')).toBe(true);
    expect(guess(guesses, '10.0.0.2', 20)).toBe(10);
  });

  it('of many addresses, one each is looked at, and the right token still', () => {
    const guesses = new Guesses(token);
    for (let i = 0; i < 10; i++) expect(guess(guesses, `10.0.1.${i}`, 20)).toBe(10);
    for (let i = 0; i < 50; i++) expect(guess(guesses, `10.0.2.${i}`, 20)).toBe(1);
    expect(guesses.isRight(token, '10.0.3.1')).toBe(true);
    vi.advanceTimersByTime(60_000);
    expect(guess(guesses, '10.0.2.1', 20)).toBe(10);
  });

  it('addresses of one IPv6 network are one, and mapped ones are those of IPv4', () => {
    const guesses = new Guesses(token);
    expect(guess(guesses, '2001:db8:1:2::1', 6)).toBe(6);
    expect(guess(guesses, '2001:db8:1:2:ffff:1:2:3', 6)).toBe(4);
    expect(guess(guesses, '2001:db8:1:3::1', 6)).toBe(6);
    expect(guess(guesses, '2001:db8::1', 6)).toBe(6);
    expect(guess(guesses, '2001:db8:0:0:5::', 6)).toBe(4);
    expect(guess(guesses, '::1', 11)).toBe(10);
    expect(guess(guesses, '::ffff:10.0.0.1', 6)).toBe(6);
    expect(guess(guesses, '10.0.0.1', 6)).toBe(4);
  });

  it('remembers ten thousand addresses', () => {
    const guesses = new Guesses(token);
    guess(guesses, 'first', 20);
    const of = (i: number) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
    for (let i = 0; i < 9999; i++) guess(guesses, of(i), 1);
    expect(() => guesses.isRight(token, 'first')).toThrow();
    guess(guesses, of(9999), 1);
    expect(guesses.isRight(token, 'first')).toBe(true);
  });
});
