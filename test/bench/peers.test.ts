import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPeers, type Peers } from '../../bench/peers.ts';

const described = { versions: { torch: '2' }, cores: 2, contestants: ['torch'], missing: { 'optax jit': 'no jax' } };

/** An answer that is the question. */
const asked = Symbol();

/** An interpreter that answers whatever it is asked with these lines, and then ends. */
function interpreter(...answers: unknown[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-peers-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'python');
  const lines = answers.map((answer) => `read -r line; echo ${answer === asked ? '"$line"' : `'${JSON.stringify(answer)}'`}`);
  writeFileSync(path, ['#!/bin/sh', ...lines, 'read -r line || exit 0; echo gone >&2; exit 3', ''].join('\n'));
  chmodSync(path, 0o755);
  return path;
}

async function opened(...answers: unknown[]): Promise<Peers> {
  const peers = await openPeers(interpreter(described, ...answers));
  if ('reason' in peers) throw new Error(peers.reason);
  return peers;
}

describe('openPeers', () => {
  it('tells that there is no interpreter', async () => {
    expect(await openPeers('/nowhere/python')).toEqual({ reason: expect.stringMatching(/^\/nowhere\/python: .*ENOENT/) });
  });

  it('tells once what every contestant lacks', async () => {
    const missing = { a: 'no torch', b: 'no torch', c: 'no jax' };
    const peers = await openPeers(interpreter({ ...described, contestants: [], missing }));
    expect(peers).toEqual({ reason: expect.stringContaining(': no torch; no jax; ') });
  });

  it('tells that an interpreter ended, and its last words', async () => {
    expect(await openPeers(interpreter())).toEqual({ reason: expect.stringMatching(/ended \(3\)\. gone/) });
  });

  it('passes answers on, in order', async () => {
    const prepared = { steps: 3, ready: {}, failed: {} };
    const peers = await opened(described, prepared, { ns: 5 });
    const answers = [peers.describe(), peers.prepare({ rule: 'adam', mode: 'alone', size: 16 }), peers.lap('torch', 10)] as const;
    expect(await Promise.all(answers)).toEqual([described, prepared, 5]);
    await peers.close();
  });

  it('asks in JSON', async () => {
    const peers = await opened(asked, asked);
    const dense = { rule: 'momentum', mode: 'bare', size: 16 } as const;
    const sparse = { rule: 'sgd', mode: 'rows', dims: [9, 4], rows: [[0, 7], [3]] } as const;
    expect(await peers.prepare(dense)).toEqual({ command: 'prepare', ...dense });
    expect(await peers.prepare(sparse)).toEqual({ command: 'prepare', ...sparse });
    await peers.close();
  });

  it('rejects what a contestant failed at, and goes on', async () => {
    const peers = await opened({ error: 'KeyError: x' }, { ns: 7 });
    await expect(peers.lap('x', 1)).rejects.toThrow('KeyError: x');
    expect(await peers.lap('torch', 1)).toBe(7);
    await peers.close();
  });

  it('rejects what is asked of a process that has ended', async () => {
    const peers = await opened();
    await expect(peers.lap('torch', 1)).rejects.toThrow(/ended \(3\)/);
    await expect(peers.lap('torch', 1)).rejects.toThrow(/ended \(3\)/);
    await peers.close();
  });
});
