import { readFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import * as rxgrad from 'rxgrad';
import {
  type adam,
  gradientBatch,
  type OptimizerConfig,
  optimizer,
  Parameters,
  type TrainingEvent,
  type WeightsUpdate,
} from 'rxgrad';
import { from, type OperatorFunction } from 'rxjs';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { optimizersPage } from '../../docs/generate-optimizers.ts';
import { fieldTable, optionsOf, withoutDefaults } from '../../docs/option-table.ts';
import { ruleTypes } from '../../src/optimizers/rule-types.ts';
import { readTensorFile } from '../../src/params/tensor-file.ts';
import { bitsOf } from './batches.ts';

const page = optimizersPage();
const sections = page
  .split(/^## /m)
  .slice(1)
  .map((text) => [text.slice(0, text.indexOf('\n')), text] as const);
const types = [...Object.keys(ruleTypes), 'Lookahead'];
const ofTypes = sections.filter(([title]) => types.includes(title));

/** Parameters that every pattern in the page finds. */
function model(): Parameters {
  return Parameters.create({
    'embedding.weight': { dims: [20, 30], data: Array.from({ length: 600 }, (_, i) => Math.sin(i)) },
    'encoder.0.weight': { dims: [3, 2] },
    'encoder.1.weight': { dims: [2, 2] },
    'head.bias': { dims: [30], data: Array.from({ length: 30 }, (_, i) => Math.cos(i)) },
  });
}

function run(params: Parameters, scan: OperatorFunction<TrainingEvent, WeightsUpdate>): Parameters {
  const gradients = [...params].map(({ name, data }) => [name, data.map((x, i) => x / 2 + (i % 3) - 1)] as const);
  const batch = gradientBatch({ gradients: Object.fromEntries(gradients) });
  from([batch, batch, batch]).pipe(scan).subscribe();
  return params;
}

/** The argument behind the parameters, where the page calls a function by this name. */
function argumentsOf(name: string, text: string): unknown[] {
  const calls = text.matchAll(new RegExp(`\\b${name}\\(params, (\\{[^\`]*\\})\\)`, 'g'));
  return [...calls].map(([, written]) => runInNewContext(`(${written})`));
}

it('docs/optimizers.md is as the optimizers are', () => {
  expect(readFileSync(new URL('../../docs/optimizers.md', import.meta.url), 'utf8')).toBe(page);
});

it('has a section for every optimizer, in the order of the table', () => {
  expect(ofTypes.map(([title]) => title)).toEqual(types);
});

describe.each(ofTypes)('%s', (type, text) => {
  it('has an example that is taken, as plain data and as a function, with the same bits', () => {
    const [config, ...others] = argumentsOf('optimizer', text) as OptimizerConfig[];
    expect(others).toEqual([]);
    expect(config!.type).toBe(type);
    const [name, scan] = Object.entries(rxgrad).find(([name]) => text.includes(`, or \`${name}(`))!;
    const [options] = argumentsOf(name, text);
    const params = model();
    const built = run(params, optimizer(params, config!));
    const called = model();
    expect(bitsOf(run(called, (scan as typeof adam)(called, options as object)))).toEqual(bitsOf(built));
    expect(bitsOf(built)).not.toEqual(bitsOf(model()));
  });

  it('names the state that a state dict holds', () => {
    const [, kept] = /^State: (.*?)[;.]/m.exec(text)!;
    const params = model();
    const config = type === 'Lookahead' ? { type, baseOptimizer: { type: 'SGD' } } : { type };
    run(params, optimizer(params, config as OptimizerConfig));
    const { tensors } = readTensorFile(params.stateDict());
    const keys = [...tensors.keys()].filter((name) => name.startsWith('state.')).map((name) => name.split('.').at(-1)!);
    expect(new Set(keys)).toEqual(new Set([...kept!.matchAll(/`(\w+)`/g)].map(([, key]) => key)));
  });
});

it('shows groups that are taken', () => {
  const [, text] = sections.find(([title]) => title === 'Parameter groups')!;
  const [config] = argumentsOf('optimizer', text) as OptimizerConfig[];
  const params = model();
  const before = params.get('encoder.0.weight').data.slice();
  run(params, optimizer(params, config!));
  expect(params.get('encoder.0.weight').data).toEqual(before);
  expect(bitsOf(params)).not.toEqual(bitsOf(model()));
});

describe('a default that a docstring tells otherwise than the schema', () => {
  const entries = { eps: v.optional(v.number(), 1e-8), other: v.optional(v.number()) };

  it('is refused in a sentence', () => {
    const options = optionsOf(entries, 'anything');
    expect(withoutDefaults('x', 'Steps. Default: eps 1e-8.', options)).toBe('Steps.');
    expect(() => withoutDefaults('x', 'Steps. Default: eps 1e-6.', options)).toThrow('"Default: eps 1e-8."');
    expect(() => withoutDefaults('x', 'Steps.', options)).toThrow('"Default: eps 1e-8."');
  });

  it('is refused of a field', () => {
    const field = (name: string, text: string) => fieldTable([{ name, type: 'number', text }], entries).at(-1);
    expect(field('eps', 'Small. Default 1e-8.')).toBe('| `eps` | `number` | Small. | 1e-8 |');
    expect(field('eps', 'Small.')).toBe('| `eps` | `number` | Small. | 1e-8 |');
    expect(field('other', 'Large. Default: as many as fit, 0.5 at most.')).toContain('| Large. | as many as fit, 0.5 at most |');
    expect(() => field('eps', 'Small. Default 1e-6.')).toThrow('expected its docstring to say "Default: 1e-8."');
  });
});
