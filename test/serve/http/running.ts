import { Writable } from 'node:stream';
import { pino } from 'pino';
import type { TestContext } from 'vitest';
import { type RunningServer, type ServeOptions, serve } from '../../../src/serve/index.ts';
import { type ServableSession, servable } from '../servable.ts';
import { typedModel } from '../typed-model.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Buffer;
  // biome-ignore lint/suspicious/noExplicitAny: what a client would read out of it.
  readonly json: any;
}

export interface Running extends RunningServer {
  readonly model: ServableSession;
  /** Lines of the server's log. */
  readonly lines: Record<string, unknown>[];
  ask(path: string, init?: RequestInit & { json?: unknown }): Promise<Answer>;
}

/** Starts a server of one model, `m`, on a free port. */
export async function start(
  t: TestContext,
  {
    type = 'float32',
    model,
    ...options
  }: Partial<ServeOptions> & { type?: Parameters<typeof typedModel>[0]; model?: ServableSession } = {},
): Promise<Running> {
  const served = model ?? (await servable(t, typedModel(type)));
  const lines: Record<string, unknown>[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  const server = await serve({ models: { m: served }, port: 0, log: pino({ level: 'debug' }, stream), ...options });
  t.onTestFinished(() => server.close());
  return {
    ...server,
    get status() {
      return server.status;
    },
    model: served,
    lines,
    async ask(path, { json, ...init } = {}) {
      const body = json === undefined ? {} : { method: 'POST', body: JSON.stringify(json) };
      const headers = json === undefined ? {} : { 'content-type': 'application/json' };
      const response = await fetch(server.url + path, { ...body, ...init, headers: { ...headers, ...init.headers } });
      const bytes = Buffer.from(await response.arrayBuffer());
      return { status: response.status, headers: response.headers, bytes, json: jsonOf(response, bytes) };
    },
  };
}

/** `value` of a request to a model of `typedModel`, which needs `x` besides. */
export function inputsOf(value: Record<string, unknown>): { inputs: Record<string, unknown>[] } {
  return {
    inputs: [
      { name: 'value', shape: [1, 2], ...value },
      { name: 'x', datatype: 'FP32', shape: [1, 2], data: [1, 10] },
    ],
  };
}

export const floats = inputsOf({ datatype: 'FP32', data: [1, 2] });

function jsonOf({ headers }: Response, bytes: Buffer): unknown {
  const length = headers.get('inference-header-content-length');
  if (length !== null) return JSON.parse(bytes.toString('utf8', 0, Number(length)));
  return headers.get('content-type')?.startsWith('application/json') && bytes.length > 0
    ? JSON.parse(bytes.toString())
    : undefined;
}
