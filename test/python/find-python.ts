import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const requirements = fileURLToPath(new URL('./requirements.txt', import.meta.url));
const folder = fileURLToPath(new URL('../../.rxgrad/', import.meta.url));
const hash = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
const kept = join(folder, `python-${hash}`);
const askTimeoutMs = 30_000;
const reachTimeoutMs = 20_000;
const installTimeoutMs = 240_000;

/** An interpreter, or why there is none. */
export type FoundPython = { readonly python: string } | { readonly reason: string };

/** That no environment can be made takes minutes to find out: once is enough. */
let making: Promise<FoundPython> | undefined;

/** Finds the interpreter that `modules` can be imported in: the one that PYTHON names, else `python3`, else {@link ownPython}. */
export async function findPython(modules: readonly string[]): Promise<FoundPython> {
  const named = process.env.PYTHON;
  const first = named || 'python3';
  const missing = await missingIn(first, modules);
  if (missing === '') return { python: first };
  if (named) return { reason: `PYTHON is ${named}, which ${missing}` };
  making ??= ownPython();
  const own = await making;
  if ('reason' in own) return { reason: `python3 ${missing}; ${own.reason}` };
  const missingInOwn = await missingIn(own.python, modules);
  return missingInOwn === '' ? own : { reason: `python3 ${missing}; what requirements.txt installs ${missingInOwn}` };
}

/** An environment with what requirements.txt lists, kept under `.rxgrad/`; made where pip reaches an index. */
async function ownPython(): Promise<FoundPython> {
  const python = join(kept, 'bin', 'python');
  if (existsSync(python)) return { python };
  const made = `${kept}-${process.pid}`;
  try {
    await run('python3', ['-m', 'venv', made], { timeout: installTimeoutMs });
    const pip = [join(made, 'bin', 'python'), '-m', 'pip', '--disable-pip-version-check'] as const;
    await reach(pip);
    await run(pip[0], [...pip.slice(1), 'install', '--requirement', requirements], { timeout: installTimeoutMs });
    await rename(made, kept);
    return { python };
  } catch (error) {
    return { reason: `no environment of its own can be made (${lastLine(error)})` };
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}

/** Fetches something small: without an index, pip would try for minutes. */
async function reach([python, ...pip]: readonly [string, ...string[]]): Promise<void> {
  const downloads = await mkdtemp(join(folder, 'pip-'));
  const options = ['--no-deps', '--retries', '0', '--timeout', '5', '--dest', downloads];
  try {
    await run(python, [...pip, 'download', ...options, 'safetensors'], { timeout: reachTimeoutMs });
  } finally {
    await rm(downloads, { recursive: true });
  }
}

/** What keeps an interpreter from being used, as the end of a sentence; empty where nothing does. */
async function missingIn(python: string, modules: readonly string[]): Promise<string> {
  const script = 'import sys, importlib.util as u; print(*[m for m in sys.argv[1:] if not u.find_spec(m)])';
  try {
    const { stdout } = await run(python, ['-c', script, ...modules], { timeout: askTimeoutMs });
    return stdout.trim() === '' ? '' : `lacks ${stdout.trim().replaceAll(' ', ', ')}`;
  } catch (error) {
    return `cannot be run (${lastLine(error)})`;
  }
}

function lastLine(error: unknown): string {
  const { stderr = '', message, killed } = error as Error & { stderr?: string; killed?: boolean };
  if (killed) return 'it took too long';
  return (stderr.trim() || message).split('\n').at(-1)!;
}
