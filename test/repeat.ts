import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';

/** A file of a report of Vitest's reporter `json`, as far as it is read. */
interface FileResult {
  readonly name: string;
  readonly status: string;
  readonly message: string;
  readonly assertionResults: readonly {
    readonly fullName: string;
    readonly status: string;
    readonly failureMessages: readonly string[];
  }[];
}

interface RunResult {
  readonly testResults: readonly FileResult[];
  /** Why there are none. */
  readonly problem?: string;
}

const { values, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    times: { type: 'string', default: '30' },
    load: { type: 'string', default: String(availableParallelism()) },
    project: { type: 'string', default: 'unit' },
  },
});
const [times, load] = [Number(values.times), Number(values.load)];
if (!Number.isSafeInteger(times) || times < 1 || !Number.isSafeInteger(load) || load < 0) {
  console.error('Expected [--times N] [--load BUSY_LOOPS] [--project NAME] [FILE…]');
  process.exit(2);
}

// Runs tests again and again beside busy loops: what depends on time or order fails sooner or later.
const loops = Array.from({ length: load }, () => spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }));
process.once('exit', () => end(loops));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
const folder = await mkdtemp(join(tmpdir(), 'rxgrad-repeat-'));
const failures: string[] = [];
let ran = 0;
for (let time = 1; time <= times; time++) {
  const start = performance.now();
  const { testResults, problem } = await run(join(folder, `${time}.json`));
  const failed = [...(problem ? [problem] : []), ...testResults.flatMap(failuresOf)];
  ran += testResults.length;
  failures.push(...failed.map((failure) => `run ${time}: ${failure}`));
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log([`run ${time} of ${times}: ${seconds} s, ${failed.length} failures`, ...failed].join('\n  '));
}
await rm(folder, { recursive: true });
console.log([`${ran} runs of files beside ${load} busy loops, ${failures.length} failures`, ...failures].join('\n'));
process.exit(failures.length === 0 ? 0 : 1);

async function run(reportFile: string): Promise<RunResult> {
  const args = ['run', '--project', values.project, '--reporter=json', `--outputFile=${reportFile}`, ...files];
  const vitest = spawn('vitest', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  vitest.stderr.on('data', (bytes) => {
    stderr = `${stderr}${bytes}`.slice(-2000);
  });
  const [code, signal] = await once(vitest, 'close');
  return readFile(reportFile, 'utf8').then(
    (text) => JSON.parse(text),
    () => ({ testResults: [], problem: `Vitest ended (${signal ?? code}) without a report: ${stderr}` }),
  );
}

function failuresOf({ name, status, message, assertionResults }: FileResult): string[] {
  const file = relative(process.cwd(), name);
  const failed = assertionResults.filter((test) => test.status === 'failed');
  // A file that fails outside its tests has none that did.
  if (status === 'failed' && failed.length === 0) return [`${file}: ${message}`];
  return failed.map(({ fullName, failureMessages }) => `${file} > ${fullName}: ${failureMessages[0]?.split('\n    at ')[0]}`);
}

function end(processes: readonly ChildProcess[]): void {
  for (const each of processes) each.kill('SIGKILL');
}
