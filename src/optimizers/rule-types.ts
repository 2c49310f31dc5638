import { adaBelief } from './ada-belief.ts';
import { adadelta } from './adadelta.ts';
import { adafactor } from './adafactor.ts';
import { adagrad } from './adagrad.ts';
import { adam } from './adam.ts';
import { adamW } from './adam-w.ts';
import { adamax } from './adamax.ts';
import type { ConfigBase } from './config.ts';
import { fromage } from './fromage.ts';
import { ftrl } from './ftrl.ts';
import { lamb } from './lamb.ts';
import { lars } from './lars.ts';
import { lion } from './lion.ts';
import { momentum } from './momentum.ts';
import { momentumNesterov } from './momentum-nesterov.ts';
import { nadam } from './nadam.ts';
import { novograd } from './novograd.ts';
import { radam } from './radam.ts';
import { rmsprop } from './rmsprop.ts';
import { rprop } from './rprop.ts';
import type { ScanOptions } from './scan-options.ts';
import { sgd } from './sgd.ts';
import { sm3 } from './sm3.ts';
import { yogi } from './yogi.ts';

/** Every optimizer with a rule of its own, by its name in a config: braintools' where braintools has it. */
export const ruleTypes = {
  SGD: sgd,
  Momentum: momentum,
  MomentumNesterov: momentumNesterov,
  Adam: adam,
  AdamW: adamW,
  Adagrad: adagrad,
  Adadelta: adadelta,
  RMSprop: rmsprop,
  Adamax: adamax,
  Nadam: nadam,
  RAdam: radam,
  Lamb: lamb,
  Lars: lars,
  Yogi: yogi,
  AdaBelief: adaBelief,
  Lion: lion,
  Rprop: rprop,
  Fromage: fromage,
  Novograd: novograd,
  SM3: sm3,
  Adafactor: adafactor,
  FTRL: ftrl,
} as const;

type Types = typeof ruleTypes;

type OptionsFor<T extends keyof Types> = Omit<
  NonNullable<Parameters<Types[T]>[1]>,
  Exclude<keyof ScanOptions, 'lr'> | 'weightDecay'
>;

/** An optimizer with a rule of its own as plain data: braintools' names in camel case. */
export type RuleConfig = { [T in keyof Types]: { readonly type: T } & OptionsFor<T> & ConfigBase }[keyof Types];
