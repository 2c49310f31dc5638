import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const requirements = fileURLToPath(new URL('./requirements.txt', import.meta.url));
const cache = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url));
const longestMs = 240_000;

export type Python = { readonly path: string } | { readonly missing: string };

/**
 * A Python that has tritonclient: the one that PYTHON names, or one that is made once, beside the packages of Node.js, where there
 * is a python3 with venv and pip.
 */
export async function tritonPython(): Promise<Python> {
  const { PYTHON: given } = process.env;
  if (given) return (await hasClient(given)) ? { path: given } : { missing: `PYTHON is ${given}, which has no tritonclient` };
  const hash = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12);
  const folder = `${cache}tritonclient-${hash}`;
  const path = `${folder}/bin/python`;
  if (existsSync(path) && (await hasClient(path))) return { path };
  const unfinished = `${folder}.${process.pid}`;
  try {
    mkdirSync(cache, { recursive: true });
    await run('python3', ['-m', 'venv', unfinished], { timeout: longestMs });
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements];
    await run(`${unfinished}/bin/python`, install, { timeout: longestMs });
    rmSync(folder, { recursive: true, force: true });
    renameSync(unfinished, folder);
    return { path };
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    const { stderr = '', message } = error as { stderr?: string; message: string };
    return { missing: `no Python with tritonclient: ${(stderr.trim() || message).split('\n').at(-1)}` };
  }
}

async function hasClient(path: string): Promise<boolean> {
  return run(path, ['-c', 'import tritonclient.http, tritonclient.grpc'], { timeout: 60_000 }).then(
    () => true,
    () => false,
  );
}
