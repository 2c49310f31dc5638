import type { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { firstValueFrom } from 'rxjs';
import { expectOption } from '../../options.ts';
import { type RunningServer, serve } from '../../serve/server.ts';
import type { Transport } from '../../sources/transport.ts';
import { openConnection } from '../connection.ts';
import { ended } from '../ended.ts';
import { adminToken } from './admin-token.ts';
import { namesOf, type OpenModel, openModels } from './models.ts';
import type { ServeCommandOptions } from './options.ts';
import { type Following, followWeights } from './replica.ts';
import { readWarmUp, type WarmUpRequests } from './warm-up.ts';

interface Running {
  readonly models: readonly OpenModel[];
  /** Those that follow published weights, by the model's name. */
  readonly replicas: Map<string, Following>;
  readonly transport: Transport | null;
  readonly warmUp: WarmUpRequests;
  readonly options: ServeCommandOptions;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Serves until the first signal, and what was asked before it. */
export async function execute(command: Command, files: readonly string[]): Promise<void> {
  const options = command.opts<ServeCommandOptions>();
  const token = adminToken(options.adminTokenFile);
  const names = namesOf(files, options.name);
  expectOption(
    (options.tlsCert === undefined) === (options.tlsKey === undefined),
    '--tls-cert',
    '--tls-key with it, or neither',
    'one of them',
  );
  const log = pino({ level: options.logLevel }, pino.destination({ dest: 1, sync: true }));
  tellWarnings(log);
  const ending = new AbortController();
  // The second signal finds nobody that would wait.
  const end = (name: NodeJS.Signals) => {
    process.off('SIGINT', end).off('SIGTERM', end);
    log.info({ signal: name }, 'ending');
    ending.abort();
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  const needsLog = options.weightsFrom !== undefined || options.checkpointTopic !== undefined;
  const connection = needsLog ? await openConnection(command) : null;
  const transport = connection?.transport ?? null;
  try {
    const models = await openModels(names, options, transport);
    try {
      const warmUp = await readWarmUp(options.warmUp, models);
      const running: Running = { models, replicas: new Map(), transport, warmUp, options, log, signal: ending.signal };
      const server = await start(running, token);
      try {
        await run(running);
      } finally {
        await server.close();
      }
    } finally {
      await Promise.all(models.map(({ session }) => session.dispose()));
    }
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end);
    await connection?.close();
  }
  log.info('ended');
}

async function start({ models, replicas, options, log }: Running, token: string | undefined): Promise<RunningServer> {
  const { tlsCert: cert, tlsKey: key, tlsCa: ca } = options;
  const tls = cert === undefined || key === undefined ? undefined : { cert, key, ...(ca === undefined ? {} : { ca }) };
  const server = await serve({
    models: Object.fromEntries(models.map(({ name, session }) => [name, session])),
    status: (model) => ({ weights: replicas.get(model)?.status ?? null }),
    host: options.host,
    port: options.port,
    log,
    logEvery: options.logEvery,
    ...(options.grpc ? { grpcPort: options.grpcPort } : {}),
    ...(token === undefined ? {} : { token }),
    ...(tls ? { tls } : {}),
    limits: {
      bodyBytes: options.bodyLimit,
      connections: options.maxConnections,
      ...(options.bytesInFlight === undefined ? {} : { bytesInFlight: options.bytesInFlight }),
    },
    timeouts: { predictMs: options.deadlineMs, drainMs: options.drainMs },
  });
  const facts = await Promise.all(models.map(factsOf));
  const grpc = server.grpcPort === null ? null : `${options.host}:${server.grpcPort}`;
  log.info({ http: server.url, grpc, admin: token !== undefined, models: facts }, 'serving');
  return server;
}

/** Warms the models up, each when its weights are there, and waits for the end. */
async function run({ models, replicas, transport, warmUp, options, log, signal }: Running): Promise<void> {
  const failing = new AbortController();
  const end = firstValueFrom(ended(signal));
  const stopped = AbortSignal.any([signal, failing.signal]);
  const following = models.map(async ({ name, session }) => {
    const { weightsFrom: topic, weightsModel = name, weightsRequests: requests } = options;
    const replica =
      topic === undefined ? null : followWeights(transport!, { topic, model: weightsModel, requests }, session, log);
    if (replica) replicas.set(name, replica);
    ended(stopped).subscribe(() => replica?.stop());
    await replica?.first;
    if (stopped.aborted) return;
    await session.warmUp(warmUp.get(name));
    const { providers, strategy } = session.status;
    log.info({ model: name, version: session.version, providers, strategy }, 'ready');
  });
  try {
    await Promise.race([end, Promise.all(following).then(() => end)]);
  } finally {
    failing.abort();
  }
}

/** What Node.js would write beside the log, such as an execution provider that is not there, is a line of it. */
function tellWarnings(log: Logger): void {
  process.removeAllListeners('warning');
  process.on('warning', (warning: Error & { readonly code?: string }) => {
    const { name, code, message } = warning;
    if (name === 'Warning') log.warn({ code }, message);
    else log.debug({ warning: name, code }, message);
  });
}

async function factsOf({ name, file, session }: OpenModel) {
  const versions = (await session.versions()).map(({ version }) => version);
  return { name, file, version: session.version, versions, ...session.status };
}
