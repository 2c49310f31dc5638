import { howToInstall, PythonWorker, python } from './python-worker.ts';

/** A step of which rule, over how many parameters, and what of it counts: see peers/contestants.py. */
export interface DenseProblem {
  readonly rule: 'momentum' | 'adam';
  readonly mode: 'alone' | 'bare' | 'received';
  readonly size: number;
}

/** A step of which rule, over rows of a table, another set of them in each call: see peers/rows.py. */
export interface RowsProblem {
  readonly rule: 'sgd' | 'adagrad' | 'adam';
  readonly mode: 'rows';
  readonly dims: readonly [number, number];
  readonly rows: readonly (readonly number[])[];
}

export type Problem = DenseProblem | RowsProblem;

/** What a Python has to offer. */
export interface PeersDescription {
  readonly versions: Readonly<Record<string, string>>;
  readonly cores: number;
  readonly contestants: readonly string[];
  /** Contestants that cannot take part, each with its reason. */
  readonly missing: Readonly<Record<string, string>>;
}

/** Contestants that can be called, as they are after some steps. */
export interface Prepared {
  readonly steps: number;
  /** `way`: how gradients are taken. `weights`: the first few. */
  readonly ready: Readonly<Record<string, { readonly way: string; readonly weights: readonly number[] }>>;
  readonly failed: Readonly<Record<string, string>>;
}

/** Optimizers of other libraries, in a process of their own that waits while it is not asked. */
export interface Peers {
  describe(): Promise<PeersDescription>;
  /** Replaces what was prepared before. */
  prepare(problem: Problem): Promise<Prepared>;
  /** Nanoseconds a call. */
  lap(contestant: string, calls: number): Promise<number>;
  close(): Promise<void>;
}

/** Starts a Python, or tells why its libraries cannot be measured. */
export async function openPeers(interpreter = python): Promise<Peers | { readonly reason: string }> {
  const worker = new PythonWorker(interpreter, 'steps.py');
  const peers: Peers = {
    describe: () => worker.ask<PeersDescription>({ command: 'describe' }),
    prepare: (problem) => worker.ask<Prepared>({ command: 'prepare', ...problem }),
    lap: async (contestant, calls) => (await worker.ask<{ ns: number }>({ command: 'lap', contestant, calls })).ns,
    close: () => worker.close(),
  };
  try {
    const { contestants, missing } = await peers.describe();
    if (contestants.length > 0) return peers;
    await peers.close();
    return { reason: `${interpreter}: ${[...new Set(Object.values(missing))].join('; ')}; ${howToInstall}` };
  } catch (error) {
    await peers.close();
    return { reason: `${interpreter}: ${(error as Error).message}; ${howToInstall}` };
  }
}
