import * as v from 'valibot';
import { groupEntries } from '../src/optimizers/groups.ts';
import { lookaheadEntries, lookaheadRule } from '../src/optimizers/lookahead.ts';
import type { OptimizerConfig } from '../src/optimizers/optimizer.ts';
import { type Rule, stepsRows } from '../src/optimizers/rule.ts';
import { ruleTypes } from '../src/optimizers/rule-types.ts';
import { scanEntries } from '../src/optimizers/scan-options.ts';
import { docstringOf, fieldsOf, fileOf } from './docstrings.ts';
import { inWords, keptBy, keptByVariants, sampleDims, variantsOf } from './kept-state.ts';
import { code, codeBlock } from './markdown.ts';
import { fieldTable, type Option, optionsOf, sectionHead } from './option-table.ts';

type OptimizerType = OptimizerConfig['type'];
type RuleType = keyof typeof ruleTypes;
type Example<T extends OptimizerType> = Omit<Extract<OptimizerConfig, { readonly type: T }>, 'type'>;

/** The options that the sections show. */
const examples: { readonly [T in OptimizerType]: Example<T> } = {
  SGD: { lr: 0.1, momentum: 0.9, nesterov: true },
  Momentum: { lr: 0.1, momentum: 0.9 },
  MomentumNesterov: { lr: 0.1, momentum: 0.95 },
  Adam: { lr: 0.01, betas: [0.9, 0.99], amsgrad: true },
  AdamW: { lr: 0.01, weightDecay: { '*.bias': 0, '*': 0.01 } },
  Adagrad: { lr: 0.05, initialAccumulatorValue: 0.1 },
  Adadelta: { lr: 1, rho: 0.95 },
  RMSprop: { lr: 0.01, momentum: 0.9, centered: true },
  Adamax: { lr: { type: 'ExponentialLR', baseLr: 0.01, gamma: 0.99 } },
  Nadam: { lr: 0.01, momentumDecay: 0.01 },
  RAdam: { lr: 0.01, betas: [0.9, 0.99] },
  Lamb: { lr: 0.01, weightDecay: 0.01 },
  Lars: { lr: 1, trustCoefficient: 0.01 },
  Yogi: { lr: 0.01 },
  AdaBelief: { lr: 0.01, eps: 1e-12 },
  Lion: { lr: 3e-4, weightDecay: 0.1 },
  Rprop: { lr: 0.01, stepSizes: [1e-6, 1] },
  Fromage: { lr: 0.01 },
  Novograd: { lr: 0.01, betas: [0.95, 0.98], weightDecay: 0.01 },
  SM3: { lr: 0.1 },
  Adafactor: { beta1: 0.9 },
  FTRL: { lr: 0.1, l1: 0.01, l2: 0.1, warmStart: true },
  Lookahead: { baseOptimizer: { type: 'Adam', lr: 0.01 }, syncPeriod: 6 },
};

const groupsExample: OptimizerConfig = {
  type: 'AdamW',
  lr: 0.01,
  weightDecay: { '*.bias': 0, '*': 0.01 },
  gradClipNorm: 1,
  groups: [
    { params: 'embedding.*', lr: { type: 'StepLR', baseLr: 0.1, stepSize: 10, gamma: 0.5 }, gradClipValue: 0.5 },
    { params: ['encoder.0.*', 'encoder.1.*'], frozen: true },
  ],
};

/** The page of optimizers. */
export function optimizersPage(): string {
  const types = {
    LearningRate: docstringOf('schedules/from-config.ts', 'LearningRate')[0]!,
    Setting: docstringOf('setting.ts', 'Setting')[0]!,
  };
  const config = fieldsOf('optimizers/config.ts', 'ConfigBase');
  const group = fieldsOf('optimizers/groups.ts', 'ParameterGroup');
  const configGroup = fieldsOf('optimizers/config.ts', 'ConfigGroup');
  return [
    '# Optimizers',
    '',
    'Made by `npm run docs:generate` from `src/optimizers`. Each is a function, `adam(params, options)`, or plain data,',
    "`optimizer(params, { type: 'Adam', …options })`, with braintools' names in camel case: the same bits.",
    '',
    '## Options of every optimizer',
    '',
    ...fieldTable(fieldsOf('optimizers/scan-options.ts', 'ScanOptions'), scanEntries, types),
    '',
    'The default of `lr` is that of the section, where it has another.',
    '',
    '## Beside them, in a config',
    '',
    ...fieldTable(config, {}),
    '',
    `A \`Setting\`: ${types.Setting[0]!.toLowerCase()}${types.Setting.slice(1)}`,
    '',
    'Whatever their order in the config: clip by global norm → clip by value → add decayed weights → the rule. Of the options of',
    'every optimizer a config takes `lr`, `tickOn`, `groups` and `outliers`; the others go into a third argument:',
    '`optimizer(params, config, { threads: 4 })`.',
    '',
    '## Parameter groups',
    '',
    'Parameters with a rate of their own, or frozen:',
    '',
    ...fieldTable(group, groupEntries),
    '',
    'In a config also:',
    '',
    ...fieldTable(configGroup, {}),
    '',
    '```ts',
    `optimizer(params, ${codeBlock(groupsExample)});`,
    '```',
    '',
    '## What the sections say',
    '',
    'In formulas, θ is a weight, g its gradient behind clipping and decay, t how often its parameter was stepped, this time',
    'included; α is `lr`, λ `weightDecay`, μ `momentum`, ε `eps` (ε₁ and ε₂, where it is two); β₁ and β₂ are `betas`. m and n are',
    "Adam's moments where a section has none of its own; m̂ and n̂ are `m / (1 − β₁ᵗ)` and `n / (1 − β₂ᵗ)`. An arrow uses what the",
    'arrows before it have left.',
    '',
    'State stands in a [state dict](state.md) as `state.<parameter>.<name>`, in the dims of the parameter and 0 at first where',
    `nothing else is said; dims that differ are shown for ${code(sampleDims[0])} and ${code(sampleDims[1])}. Where a batch holds touched rows of a`,
    'table ([the wire](wire.md)), these rows are stepped by themselves, and their state with them, or they are taken for a dense',
    'gradient with zeros in all other rows.',
    '',
    ...Object.keys(ruleTypes).flatMap((type) => sectionOfRule(type as RuleType)),
    ...sectionOfLookahead(),
  ].join('\n');
}

function sectionOfRule(type: RuleType): string[] {
  const { name, lr, ownDecay, entries, rule } = ruleTypes[type].definition;
  const options = [
    { name: 'lr', takes: '`LearningRate`', value: lr, required: false },
    ...optionsOf(entries, 'anything'),
    ...(ownDecay === undefined ? [] : [{ name: 'weightDecay', takes: '`Setting`', value: ownDecay, required: false }]),
  ];
  const defaults = v.parse(v.strictObject(entries), {});
  const variants = variantsOf(defaults).map(({ changed, options }) => ({ changed, rule: rule(options, false) }));
  return section(type, { name, options, kept: keptByVariants(variants), rules: variants.map(({ rule }) => rule) });
}

function sectionOfLookahead(): string[] {
  const other = ruleTypes[examples.Lookahead.baseOptimizer.type].definition;
  const inner = other.rule(v.parse(v.strictObject(other.entries), {}), false);
  const rule = lookaheadRule(inner, lookaheadEntries.syncPeriod.default, lookaheadEntries.alpha.default);
  const own = keptBy({ state: rule.state.filter((spec) => !inner.state.includes(spec)) });
  const options = optionsOf(lookaheadEntries, 'config of any other optimizer');
  return section('Lookahead', { name: 'lookahead', options, kept: `that of the other, and ${inWords(own)}`, rules: [rule] });
}

interface Facts {
  /** The function's name. */
  readonly name: string;
  readonly options: readonly Option[];
  /** What is kept, in words. */
  readonly kept: string;
  /** Every rule that the options can make. */
  readonly rules: readonly Rule[];
}

/** Fails where only some of the rules step rows by themselves: no section says so yet. */
function section(type: OptimizerType, { name, options, kept, rules }: Facts): string[] {
  const [text, references] = docstringOf(`optimizers/${fileOf(name)}.ts`, name);
  if (references === undefined) throw new Error(`${type}: expected its docstring to end with a reference`);
  const byRows = rules.every(stepsRows);
  if (!byRows && rules.some(stepsRows)) throw new Error(`${type}: expected all its rules to step rows by themselves, or none`);
  const example = examples[type];
  return [
    ...sectionHead(type, text!, options),
    `State: ${kept}. Touched rows: ${byRows ? 'stepped by themselves' : 'taken for a dense gradient with zeros'}.`,
    '',
    `Reference: ${references}`,
    '',
    `\`optimizer(params, ${code({ type, ...example })})\`, or \`${name}(params, ${code(example)})\``,
    '',
  ];
}
