import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** A server in a process of its own, which prints its address once it listens. */
export interface ServerProcess {
  readonly url: string;
  readonly pid: number;
  /** Bytes of memory that it has now. */
  residentBytes(): number;
  stop(): Promise<void>;
}

/** Bytes of memory that a process has, as Linux counts them. */
export function residentBytesOf(pid: number): number {
  return 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

const startMs = 60_000;
const keptOfStderr = 500;

/** `script`: a file of this folder; `command`: what runs it, default Node. */
export async function startServer(
  script: string,
  args: readonly string[],
  command: readonly string[] = [process.execPath, '--disable-warning=ExperimentalWarning'],
): Promise<ServerProcess> {
  const [program, ...options] = command;
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(program!, [...options, path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-keptOfStderr);
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(`it ended (${signal ?? code}). ${stderr}`));
  });
  const lines = createInterface({ input: child.stdout });
  const listening = new Promise<string>((resolve) => {
    lines.on('line', (line) => {
      const { 0: url } = /http:\/\/[\d.]+:\d+/.exec(line) ?? [];
      if (url) resolve(url);
    });
  });
  const timer = setTimeout(kill, startMs);
  const url = await Promise.race([
    listening,
    ended.then((how) => {
      throw new Error(`${script}: expected it to listen, but ${how}`);
    }),
  ]).finally(() => clearTimeout(timer));
  return {
    url,
    pid: child.pid!,
    residentBytes: () => residentBytesOf(child.pid!),
    async stop() {
      child.kill('SIGTERM');
      const late = setTimeout(kill, 10_000);
      await ended;
      clearTimeout(late);
      process.off('exit', kill);
    },
  };
}
