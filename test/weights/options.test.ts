import { memoryTransport, weightsFrom } from 'rxgrad';
import { expect, it } from 'vitest';
import { headerOf } from '../../src/weights/weights-record.ts';

it.each<[object, RegExp]>([
  [{ topic: '' }, /weightsFrom: topic: expected a name/],
  [{ model: '' }, /weightsFrom: model: expected a name/],
  [{ into: {} }, /weightsFrom: into: expected Parameters/],
  [{ rejections: 5 }, /weightsFrom: rejections: expected an observer/],
  [{ requests: '' }, /weightsFrom: requests: expected a name/],
  [{ maxBytes: 0 }, /weightsFrom: maxBytes: expected >=1/],
  [{ until: 'then' }, /weightsFrom: until/],
])('weightsFrom refuses %j', (options, message) => {
  expect(() => weightsFrom(memoryTransport(), { topic: 'weights', model: 'm', ...options } as never)).toThrow(message);
});

it('a header is read as text, whatever it came as; one that is longer than any honest one is none', () => {
  const header = (value: string | Uint8Array) =>
    headerOf({ offset: 0, key: null, value: null, headers: { h: value }, timestampMs: 0 }, 'h');
  expect(header('ä')).toBe('ä');
  expect(header(Buffer.from('xäx').subarray(1, 3))).toBe('ä');
  const longest = 'a'.repeat(1024);
  expect(header(longest)).toBe(longest);
  expect(header(`${longest}a`)).toBeUndefined();
  expect(headerOf({ offset: 0, key: null, value: null, headers: {}, timestampMs: 0 }, 'h')).toBeUndefined();
});
