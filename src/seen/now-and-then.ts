/** Warns the first time, and then at the tenth, the hundredth and so on: what may go on for long floods no log. */
export class NowAndThen {
  readonly #code: string;
  #count = 0;
  #next = 1;

  constructor(code: string) {
    this.#code = code;
  }

  warn(message: (count: number) => string): void {
    this.#count += 1;
    if (this.#count < this.#next) return;
    this.#next *= 10;
    process.emitWarning(message(this.#count), { code: this.#code });
  }
}

const said = new Map<string, Set<string>>();

/** Warns once in a process for each subject. */
export function warnOnce(code: string, subject: string, message: () => string): void {
  let subjects = said.get(code);
  if (!subjects) {
    subjects = new Set();
    said.set(code, subjects);
  }
  if (subjects.has(subject)) return;
  subjects.add(subject);
  process.emitWarning(message(), { code });
}
