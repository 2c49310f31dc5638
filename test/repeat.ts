import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';

/** What is read of a report of Vitest's reporter `json`. */
interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
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
  const report = await run(join(folder, `${time}.json`));
  const failed = failuresOf(report);
  ran += report.testResults.length;
  failures.push(...failed.map((failure) => `run ${time}: ${failure}`));
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  console.log([`run ${time} of ${times}: ${seconds} s, ${failed.length} failures`, ...failed].join('\n  '));
}
await rm(folder, { recursive: true });
console.log([`${ran} runs of files beside ${load} busy loops, ${failures.length} failures`, ...failures].join('\n'));
process.exit(failures.length === 0 ? 0 : 1);

async function run(reportFile: string): Promise<Report> {
  const reporters = ['--reporter=json', `--outputFile=${reportFile}`];
  const args = ['run', '--project', values.project, ...reporters, ...files];
  const vitest = spawn('vitest', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  vitest.stderr.on('data', (bytes) => {
    stderr = `${stderr}${bytes}`.slice(-4000);
  });
  await once(vitest, 'close');
  return readFile(reportFile, 'utf8').then(
    (text) => JSON.parse(text),
    () => {
      throw new Error(`vitest wrote no report. Its last words: ${stderr}`);
    },
  );
}

function failuresOf({ testResults }: Report): string[] {
  return testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(process.cwd(), name);
    const failed = assertionResults.filter((test) => test.status === 'failed');
    // A file that fails outside its tests has none that did.
    if (status === 'failed' && failed.length === 0) return [`${file}: ${message}`];
    return failed.map(({ fullName, failureMessages }) => `${file} > ${fullName}: ${failureMessages[0]?.split('\n    at ')[0]}`);
  });
}

function end(processes: readonly ChildProcess[]): void {
  for (const each of processes) each.kill('SIGKILL');
}
