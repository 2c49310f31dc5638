import { readFileSync } from 'node:fs';
import { isRxgradError } from 'rxgrad';
import { describe, expect, it } from 'vitest';
import { errorsPage } from '../docs/generate.ts';
import { errorCatalogue, RxgradError } from '../src/errors.ts';

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

  it.each([null, undefined, 1, 'text', {}, new Error('other')])('are not %o', (value) => {
    expect(isRxgradError(value)).toBe(false);
  });

  it('are documented as they are', () => {
    expect(readFileSync(new URL('../docs/errors.md', import.meta.url), 'utf8')).toBe(errorsPage());
  });
});
