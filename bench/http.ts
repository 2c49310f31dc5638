import { fileURLToPath } from 'node:url';
import autocannon from 'autocannon';
import { howToInstall, python } from './python-worker.ts';
import { atLeast, type Report, rowOf, type Table } from './report.ts';
import { type ServerProcess, startServer } from './server-process.ts';
import { pairedRatio, quantile } from './statistics.ts';

const model = fileURLToPath(new URL('../pipelines/drift/mlp.onnx', import.meta.url));
const connections = [1, 16, 64];
const rounds = 5;
const seconds = 3;
const own = 'rxgrad';
const bare = 'bare Fastify';
const fastapi = 'FastAPI on uvicorn';
const fastapiUv = 'FastAPI on uvicorn[standard]';
const body = JSON.stringify({ inputs: [{ name: 'x', shape: [1, 3], datatype: 'FP32', data: [0.12, -0.5, 0.7] }] });

interface Figures {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

/** Predictions a second over HTTP, one event a request, beside what a Node user and a Python user would write. */
export default async function http(): Promise<Report> {
  const notRun: string[] = [];
  const servers: Record<string, ServerProcess> = {
    [own]: await startServer('./servers/rxgrad.ts', [model]),
    [bare]: await startServer('./servers/bare.ts', [model]),
  };
  for (const [name, parts] of [
    [fastapi, ['asyncio', 'h11']],
    [fastapiUv, ['uvloop', 'httptools']],
  ] as const) {
    try {
      servers[name] = await startServer('./peers/http_server.py', [model, ...parts], [python, '-B']);
    } catch (error) {
      notRun.push(`${name}: ${(error as Error).message.trim().split('\n').at(-1)} (${howToInstall})`);
    }
  }
  try {
    for (const { url } of Object.values(servers)) await check(url);
    const found: Found[] = [];
    for (const count of connections) found.push(await turns(servers, count));
    return {
      name: 'http',
      measures: 'POST v2/models/m/infer, JSON, one event of a small MLP a request; the client shares the machine',
      tables: found.flatMap(tablesOf),
      aims: aimsOf(found.at(-1)!),
      notRun,
    };
  } finally {
    for (const server of Object.values(servers)) await server.stop();
  }
}

/** By server, the figures of each round. */
interface Found {
  readonly count: number;
  readonly rounds: Readonly<Record<string, Figures[]>>;
}

/** Servers take turns; the first round warms up and does not count. */
async function turns(servers: Readonly<Record<string, ServerProcess>>, count: number): Promise<Found> {
  const names = Object.keys(servers);
  const found: Record<string, Figures[]> = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      const figures = await load(servers[name]!.url, count);
      if (round > 0) found[name]!.push(figures);
    }
  }
  return { count, rounds: found };
}

async function load(url: string, count: number): Promise<Figures> {
  const times: number[] = [];
  const { requests, errors, non2xx, duration } = await new Promise<autocannon.Result>((resolve, reject) => {
    const running = autocannon(
      {
        url: `${url}/v2/models/m/infer`,
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
        connections: count,
        duration: seconds,
      },
      (error, result) => (error ? reject(error) : resolve(result)),
    );
    // Its own percentiles are in whole milliseconds.
    running.on('response', (_client, _status, _bytes, ms) => times.push(ms));
  });
  if (errors + non2xx > 0) throw new Error(`${url}: expected answers alone, got ${errors} errors and ${non2xx} refusals`);
  return { perSecond: requests.total / duration, p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

/** All have to give the same answer to be compared. */
async function check(url: string): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${url}/v2/models/m/infer`, { method: 'POST', headers, body });
  const { outputs } = (await answer.json()) as { outputs: { data: number[] }[] };
  if (!Number.isFinite(outputs[0]?.data[0])) throw new Error(`${url}: expected a prediction, got ${JSON.stringify(outputs)}`);
}

function tablesOf({ count, rounds: figures }: Found): Table[] {
  const of = (name: string, key: keyof Figures): number[] => figures[name]!.map((round) => round[key]);
  const title = `${count} connection${count === 1 ? '' : 's'}`;
  const rates = Object.keys(figures).map((name) => {
    const row = rowOf(name, of(name, 'perSecond'), Math.max);
    const ratio = pairedRatio(of(name, 'perSecond'), of(own, 'perSecond'));
    return name === own ? row : { ...row, against: own, ratio };
  });
  const times = Object.keys(figures).flatMap((name) => [
    rowOf(`${name}, p50`, of(name, 'p50')),
    rowOf(`${name}, p99`, of(name, 'p99')),
  ]);
  return [
    { title, unit: 'predictions/s', rows: rates },
    { title, unit: 'ms', rows: times },
  ];
}

function aimsOf({ count, rounds: figures }: Found) {
  const rates = (name: string): number[] => figures[name]!.map(({ perSecond }) => perSecond);
  const limits = { [fastapi]: 3.5, [bare]: 1.15 };
  return Object.entries(limits)
    .filter(([name]) => name in figures)
    .map(([name, limit]) => atLeast(`${count} connections, against ${name}`, limit, pairedRatio(rates(own), rates(name))));
}
