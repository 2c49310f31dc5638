import fc from 'fast-check';
import { expect, it } from 'vitest';
import { traceContext, traceparentOf } from '../../src/serve/trace-context.ts';

const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
const parent = '00f067aa0ba902b7';

it('goes on with a trace, under a span of its own', () => {
  const context = traceContext(`00-${trace}-${parent}-01`);
  expect(context).toEqual({ traceId: trace, parentId: parent, spanId: expect.stringMatching(/^[0-9a-f]{16}$/), flags: '01' });
  expect(context.spanId).not.toBe(parent);
  expect(traceparentOf(context)).toBe(`00-${trace}-${context.spanId}-01`);
});

it('reads a later version as far as it knows it, and passes on the one flag that it knows', () => {
  expect(traceContext(`cc-${trace}-${parent}-01-what-comes`)).toMatchObject({ traceId: trace, flags: '01' });
  expect(traceContext(`cc-${trace}-${parent}-00`)).toMatchObject({ traceId: trace, flags: '00' });
  expect(traceContext(`00-${trace}-${parent}-fe`)).toMatchObject({ traceId: trace, flags: '00' });
});

it.each([
  undefined,
  '',
  'x',
  ['00', trace, parent, '01'],
  `ff-${trace}-${parent}-01`,
  `00-${trace}-${parent}-01-more`,
  `cc-${trace}-${parent}-01.more`,
  `00-${trace.toUpperCase()}-${parent}-01`,
  `00-${'0'.repeat(32)}-${parent}-01`,
  `00-${trace}-${'0'.repeat(16)}-01`,
  `00-${trace}-${parent}-1`,
  ` 00-${trace}-${parent}-01`,
  `00-${trace}-${parent}-01, 00-${trace}-${parent}-01`,
])('begins a trace at %j', (header) => {
  const context = traceContext(header);
  expect(context).toMatchObject({ parentId: null, flags: '00' });
  expect(context.traceId).toMatch(/^(?!0{32})[0-9a-f]{32}$/);
  expect(context.traceId).not.toBe(trace);
});

it('takes any text at all', () => {
  const wellFormed = /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/;
  fc.assert(fc.property(fc.string(), (text) => void expect(traceparentOf(traceContext(text))).toMatch(wellFormed)));
});
