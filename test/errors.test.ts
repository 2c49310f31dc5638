import { readFileSync } from 'node:fs';
import { isRxgradError } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { errorsPage } from '../docs/generate.ts';
import { type ErrorKey, errorCatalogue, RxgradError } from '../src/errors.ts';

describe('errors', () => {
  it('derive name and code from the key', () => {
    for (const { key, name, code } of errorCatalogue()) {
      expect(name.toLowerCase()).toBe(`${key.toLowerCase()}error`);
      expect(code.replaceAll('_', '').toLowerCase()).toBe(`rxgrad${key.toLowerCase()}`);
    }
  });

  it('fill in their message, keep their cause, and tell JSON no stack', () => {
    const cause = new Error('below');
    const error = new RxgradError('invalidOption', { option: 'lr', expected: 'a number above 0', got: '-1' }, { cause });
    expect(error.message).toBe('lr: expected a number above 0, got -1');
    expect(error.cause).toBe(cause);
    expect(error.name).toBe('InvalidOptionError');
    expect(Object.keys(JSON.parse(JSON.stringify(error)))).toEqual(['code', 'message', 'details']);
  });

  it('cut what producers have sent, and take out what garbles a terminal', () => {
    const parameter = `\u001b[2J${'x'.repeat(10_000)}`;
    const { message, details } = new RxgradError('unknownParameter', { where: 'g/0@1', expected: 'a', parameter });
    expect(message).toMatch(/got "\?\[2Jx{496}…"$/);
    expect(String(details.parameter)).toHaveLength(501);
  });

  it.each([null, undefined, 1, 'text', {}, new Error('other')])('are not %o', (value) => {
    expect(isRxgradError(value)).toBe(false);
  });

  it('of another copy of the package are known by their brand', () => {
    expect(isRxgradError({ [Symbol.for('rxgrad.error')]: true })).toBe(true);
  });

  it('are told from what cannot even be looked at', () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(isRxgradError(proxy)).toBe(false);
  });

  it.each(errorCatalogue())(
    '$key is an error with the facts that a caller decides on',
    ({ key, name, code, disposition, status }) => {
      const error = new RxgradError<ErrorKey>(key, {} as never);
      expect(error).toBeInstanceOf(Error);
      expect(isRxgradError(error)).toBe(true);
      expect(error).toMatchObject({ key, name, code, disposition, status });
      expect(Object.keys(error)).not.toContain('name');
      expect(JSON.stringify(error)).not.toContain('stack');
    },
  );

  it('have one code each', () => {
    const codes = errorCatalogue().map(({ code }) => code);
    expect(new Set(codes).size).toBe(codes.length);
  });

  it('are documented as they are', () => {
    expect(readFileSync(new URL('../docs/errors.md', import.meta.url), 'utf8')).toBe(errorsPage());
  });
});
