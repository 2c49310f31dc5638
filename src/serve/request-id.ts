const sane = /^[\w.:/+=@-]{1,128}$/;
const run = Math.random().toString(36).slice(2, 10);
let requests = 0;

/** The id that a caller gave its request, if it is a plain one; else a new one. */
export function requestIdOf(given: unknown): string {
  if (typeof given === 'string' && sane.test(given)) return given;
  requests++;
  return `${run}-${requests.toString(36)}`;
}
