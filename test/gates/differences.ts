import MersenneTwister from 'mersenne-twister';

/** Draws differences without end. */
export type Draw = () => number;

export const random = new MersenneTwister(7);

/** Of losses of 0 and 1: a version that is worse where `worse` of the examples say so, better where `better` do. */
export function zeroOne(worse: number, better: number): Draw {
  return () => {
    const drawn = random.random();
    if (drawn < worse) return 1;
    return drawn < worse + better ? -1 : 0;
  };
}

/** 1 now and then, and otherwise what makes the mean come right. */
export function rare(share: number, mean: number): Draw {
  return () => (random.random() < share ? 1 : (mean - share) / (1 - share));
}

/** Around a mean, evenly. */
export function even(mean: number, width: number): Draw {
  return () => mean + (random.random() - 0.5) * width;
}

/** Of the same mean always, in times that are calm and others that are not. */
export function inSpells(mean: number): Draw {
  let calm = true;
  return () => {
    if (random.random() < 0.02) calm = !calm;
    return mean + (random.random() < 0.5 ? 1 : -1) * (calm ? 0.05 : 0.9);
  };
}
