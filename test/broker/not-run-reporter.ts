import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Names at the very end what was not run, and why. */
export default class NotRunReporter implements Reporter {
  #lines: string[] = [];

  onTestRunEnd(modules: readonly TestModule[]): void {
    this.#lines = modules.flatMap(notRun);
    // The summary of the default reporter comes in the same event; this line belongs behind it.
    setImmediate(() => this.#print());
  }

  #print(): void {
    for (const line of this.#lines) console.log(`not run: ${line}`);
    this.#lines = [];
  }
}

function notRun(module: TestModule): string[] {
  const skipped = [...module.children.allTests('skipped')];
  // With a name pattern, everything else is skipped: that was asked for.
  if (module.project.config.testNamePattern || skipped.length === 0) return [];
  const file = relative(process.cwd(), module.moduleId);
  const missing = missingFor(module);
  const byTitle = (test: TestCase) => {
    const result = test.result();
    const reason =
      (result.state === 'skipped' && result.note) ||
      (test.options.mode === 'todo' ? 'still to be written' : 'skipped in the file');
    return `${file} > ${test.fullName}: ${reason}`;
  };
  const explained = skipped.filter((test) => missing && !hasNote(test) && test.options.mode === 'skip');
  const others = skipped.filter((test) => !explained.includes(test)).map(byTitle);
  if (explained.length === 0) return others;
  return [`${explained.length} ${explained.length === 1 ? 'test' : 'tests'} in ${file}: ${missing}`, ...others];
}

function hasNote(test: TestCase): boolean {
  const result = test.result();
  return result.state === 'skipped' && Boolean(result.note);
}

/** What a file asks for and does not get: then its skipped tests wait for that. */
function missingFor(module: TestModule): string {
  const { brokers, brokersMissing, clusterMissing } = module.project.getProvidedContext();
  const source = readFileSync(module.moduleId, 'utf8');
  if (brokers === null && source.includes("inject('brokers')")) return `no broker (${brokersMissing})`;
  if (clusterMissing && source.includes("inject('clusterMissing')")) return `no brokers to kill (${clusterMissing})`;
  return '';
}
