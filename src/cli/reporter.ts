import type { Writable } from 'node:stream';
import Table from 'cli-table3';
import { createLogUpdate } from 'log-update';

const PLAIN_INTERVAL_MS = 5000;
const LIVE_INTERVAL_MS = 100;

/** Shows a person how a run goes: one line that changes on a terminal, lines now and then elsewhere. */
export interface Reporter {
  /** Shows the line from now on, asking for it anew as often as suits the output. */
  progress(line: () => string): void;
  line(text: string): void;
  table(head: readonly string[], rows: readonly (readonly string[])[]): void;
  /** Ends the progress line, leaving it as it is. */
  close(): void;
}

export function createReporter(out: Writable & { readonly isTTY?: boolean }): Reporter {
  const live = out.isTTY ? createLogUpdate(out as NodeJS.WriteStream) : null;
  let timer: NodeJS.Timeout | undefined;
  let current: (() => string) | null = null;

  const show = () => {
    if (!current) return;
    if (live) live(current());
    else out.write(`${current()}\n`);
  };
  const reporter: Reporter = {
    progress(line) {
      current = line;
      clearInterval(timer);
      timer = setInterval(show, live ? LIVE_INTERVAL_MS : PLAIN_INTERVAL_MS);
    },
    line(text) {
      live?.clear();
      out.write(`${text}\n`);
    },
    table(head, rows) {
      const table = new Table({
        head: [...head],
        style: { head: [], border: [], compact: true },
        colAligns: head.map((_, i) => (i === 0 ? 'left' : 'right')),
      });
      for (const row of rows) table.push([...row]);
      reporter.line(table.toString());
    },
    close() {
      clearInterval(timer);
      show();
      live?.done();
      current = null;
    },
  };
  return reporter;
}
