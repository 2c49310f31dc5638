/** What a name in a checkpoint of torch or braintools stands for. */
export type Meaning =
  | { readonly kind: 'weights'; readonly parameter: string }
  | { readonly kind: 'state'; readonly parameter: string; readonly key: string }
  /** How often every parameter was stepped. */
  | { readonly kind: 'count' }
  /** A rate, a decay: an option, which is the scan's own. */
  | { readonly kind: 'option' };

/** What others call an optimizer's tensors, and what torch does. */
const keys: Readonly<Record<string, string>> = {
  velocity: 'momentum_buffer',
  trace: 'momentum_buffer',
  mu: 'exp_avg',
  mean: 'exp_avg',
  nu: 'exp_avg_sq',
  square: 'exp_avg_sq',
  count: 'step',
};
const torchKeys = [
  ...['step', 'momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'exp_avg_var', 'exp_inf', 'square_avg', 'grad_avg'],
  ...['acc_delta', 'sum', 'mu_product', 'prev', 'step_size'],
];
const known = new Map([...Object.entries(keys), ...torchKeys.map((key) => [key, key] as const)]);

/** Where weights lie in what holds them, and state in what holds that; numbers stand for places in a list. */
const weightFolders = new Set(['module', 'model', 'params', 'state_dict', 'model_state_dict', 'param_groups']);
const stateFolders = new Set(['state', 'optimizer', 'optim', 'opt_state', 'inner_state', 'param_groups_opt_states']);
const options = new Set(['lr', 'base_lr', 'initial_lr', 'weight_decay']);

/**
 * Reads a name: a parameter's own behind any folders of weights; or, behind any folders, a parameter's with what is kept for it
 * (`velocity.<parameter>` or `<parameter>.velocity`). Null where it is neither.
 */
export function meaningOf(name: string, parameters: { has(name: string): boolean }): Meaning | null {
  if (parameters.has(name)) return { kind: 'weights', parameter: name };
  const path = name.split('.');
  for (let at = 0; at < path.length; at++) {
    const before = path.slice(0, at).filter((part) => !/^\d+$/.test(part));
    const inFolders = before.every((part) => weightFolders.has(part) || stateFolders.has(part));
    const rest = path.slice(at).join('.');
    if (inFolders && parameters.has(rest) && before.some((part) => weightFolders.has(part))) {
      return { kind: 'weights', parameter: rest };
    }
    const key = known.get(before.at(-1) ?? '');
    if (key && before.slice(0, -1).every((part) => stateFolders.has(part)) && parameters.has(rest)) {
      return { kind: 'state', parameter: rest, key };
    }
    const keyBehind = known.get(path.at(-1)!);
    const parameter = path.slice(at, -1).join('.');
    if (inFolders && keyBehind && parameters.has(parameter)) return { kind: 'state', parameter, key: keyBehind };
  }
  const last = path.at(-1)!;
  const folders = path.slice(0, -1).filter((part) => !/^\d+$/.test(part));
  if (!folders.every((part) => weightFolders.has(part) || stateFolders.has(part))) return null;
  if (options.has(last)) return { kind: 'option' };
  return ['count', 'step', 'step_count'].includes(last) ? { kind: 'count' } : null;
}
