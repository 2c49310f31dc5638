import { type ChildProcess, spawn } from 'node:child_process';

/**
 * Has a shell run `script` (with `args` as `$1`, `$2`…) when this process ends, however it ends: the shell waits at a pipe
 * whose other end closes then. Vitest leaves within a millisecond after Ctrl-C, so nothing slower can be done from inside.
 * Killing the shell takes the arrangement back.
 */
export function leash(script: string, ...args: string[]): ChildProcess {
  const shell = spawn('sh', ['-c', `read -r _; ${script}`, 'leash', ...args], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  shell.unref();
  return shell;
}
