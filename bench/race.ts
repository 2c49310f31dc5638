/** Makes some calls, and returns the nanoseconds that one took. What is asked for in another process answers later. */
export type Contestant = (calls: number) => number | Promise<number>;

/** Nanoseconds a call took, by round. */
export type Laps<Name extends string> = Record<Name, number[]>;

const warmUpMs = 40;
const lapMs = 15;

/**
 * Times contestants against each other: every round runs each of them for about as long, and starts with another one, so that
 * whatever else the machine does meets all of them. `leastCalls` are made in any lap, as where calls overlap.
 */
export async function race<Name extends string>(
  contestants: Readonly<Record<Name, Contestant>>,
  rounds: number,
  leastCalls = 1,
): Promise<Laps<Name>> {
  const names = Object.keys(contestants) as Name[];
  const calls: number[] = [];
  for (const name of names) calls.push(Math.max(leastCalls, await callsPerLap(contestants[name])));
  const laps = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Laps<Name>;
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const index = (round + turn) % names.length;
      const name = names[index]!;
      laps[name].push(await contestants[name](calls[index]!));
    }
  }
  return laps;
}

/**
 * Lets contestants that measure by themselves take turns: every round asks each of them once, and starts with another one. The
 * first round warms up and does not count.
 */
export async function takeTurns<Name extends string>(
  contestants: Readonly<Record<Name, () => Promise<number>>>,
  rounds: number,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contestants) as Name[];
  const figures = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 0; round <= rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      const figure = await contestants[name]();
      if (round > 0) figures[name].push(figure);
    }
  }
  return figures;
}

/**
 * A contestant of this process: a function, called again and again, each time when the last call has come to its end. `finish`
 * waits for what calls have left to be done.
 */
export function timed(run: () => unknown, finish: () => unknown = () => {}): Contestant {
  return async (calls) => {
    const start = performance.now();
    for (let call = 0; call < calls; call++) {
      const running = run();
      if (running instanceof Promise) await running;
    }
    const finishing = finish();
    if (finishing instanceof Promise) await finishing;
    return ((performance.now() - start) * 1e6) / calls;
  };
}

async function callsPerLap(contestant: Contestant): Promise<number> {
  let spentMs = 0;
  let ns = 0;
  for (let calls = 1; spentMs < warmUpMs; calls *= 2) {
    ns = await contestant(calls);
    spentMs += (ns * calls) / 1e6;
  }
  return Math.max(1, Math.round((lapMs * 1e6) / ns));
}
