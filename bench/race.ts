/** Nanoseconds a call took, by round. */
export type Laps<Name extends string> = Record<Name, number[]>;

const warmUpMs = 40;
const lapMs = 15;

/**
 * Times functions against each other: every round runs each of them for about as long, and starts with another one, so that
 * whatever else the machine does meets all of them.
 */
export function race<Name extends string>(contestants: Readonly<Record<Name, () => void>>, rounds: number): Laps<Name> {
  const names = Object.keys(contestants) as Name[];
  const calls = names.map((name) => callsPerLap(contestants[name]));
  const laps = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Laps<Name>;
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const index = (round + turn) % names.length;
      const name = names[index]!;
      laps[name].push(lap(contestants[name], calls[index]!));
    }
  }
  return laps;
}

function callsPerLap(run: () => void): number {
  let calls = 0;
  const start = performance.now();
  do {
    run();
    calls += 1;
  } while (performance.now() - start < warmUpMs);
  return Math.max(1, Math.round((calls * lapMs) / (performance.now() - start)));
}

function lap(run: () => void, calls: number): number {
  const start = performance.now();
  for (let call = 0; call < calls; call++) run();
  return ((performance.now() - start) * 1e6) / calls;
}
