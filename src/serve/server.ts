import { type Logger, pino } from 'pino';
import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { channels, type StrategyObserved } from '../observe/channels.ts';
import { count, expectOption, nonNegative, parseOptions, positive } from '../options.ts';
import { BytesInFlight, type InFlightFigures } from './bytes-in-flight.ts';
import { startGrpcServer } from './grpc/grpc-server.ts';
import { Guesses } from './guesses.ts';
import { startHttpServer } from './http/http-server.ts';
import { seldom } from './seldom.ts';
import { type Servable, ServedModels } from './served-models.ts';
import { readTls, type ServeTls } from './tls.ts';

/** What `serve` serves, where, and within which limits. */
export interface ServeOptions {
  /** Sessions by the name that clients ask for. */
  readonly models: Readonly<Record<string, Servable>>;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Of HTTP. Default 8000; 0 for any that is free. */
  readonly port?: number;
  /** Of gRPC; 0 for any that is free. Default: no gRPC. */
  readonly grpcPort?: number;
  /** Opens the admin routes to who has it: at least 16 characters. Without it they are closed. */
  readonly token?: string | undefined;
  /** Serves HTTPS. */
  readonly tls?: ServeTls;
  readonly limits?: ServeLimits;
  readonly timeouts?: ServeTimeouts;
  /** What `GET /admin/models/{model}/status` says of a model besides. */
  readonly status?: (model: string) => Readonly<Record<string, unknown>>;
  /** Level of the log, or a logger. Default `info`, to standard error. */
  readonly log?: Logger | 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /** One in so many requests that went well leaves a line at `info`; those that failed always do. Default 0: none. */
  readonly logEvery?: number;
}

export interface ServeLimits {
  /** Of a request's body, decompressed. Default 64 MiB. */
  readonly bodyBytes?: number;
  /**
   * Of all requests that come or wait for their answer, over HTTP and gRPC together. Above it the largest that is still coming is
   * refused (503, UNAVAILABLE). At least twice `bodyBytes`. Default 256 MiB, or four times `bodyBytes` if that is more.
   */
  readonly bytesInFlight?: number;
  /** Inputs of a request, and outputs asked for. Default 256. */
  readonly tensors?: number;
  /** Of one tensor. Default 2^24. */
  readonly elements?: number;
  /** Open at once; what comes above is refused. Default 4096. */
  readonly connections?: number;
}

export interface ServeTimeouts {
  /** Until a request's headers are there. Default 10 s. */
  readonly headersMs?: number;
  /** Until a request is there as a whole, or a message of a gRPC stream from its first byte. Default 60 s. */
  readonly requestMs?: number;
  /** Of a connection without a request. Default 65 s. */
  readonly keepAliveMs?: number;
  /** Of a prediction, the wait for it included; a request may ask for less. Default 30 s. */
  readonly predictMs?: number;
  /** How long `close` waits for requests that are under way. Default 10 s. */
  readonly drainMs?: number;
}

export interface ServerStatus {
  /** Bytes of requests that it holds, and requests that were refused for their limit. */
  readonly requests: InFlightFigures;
  /** Wrong tokens of admin routes, and requests that were refused for them. */
  readonly guesses: { readonly wrong: number; readonly refused: number };
}

export interface RunningServer {
  readonly url: string;
  readonly port: number;
  /** Of gRPC; null without it. */
  readonly grpcPort: number | null;
  /** What it holds, and what it has refused. */
  readonly status: ServerStatus;
  /** Stops being ready, lets requests that are under way end, and closes. Sessions stay open. */
  close(): Promise<void>;
}

const LEAST_TOKEN_CHARACTERS = 16;
const BYTES_IN_FLIGHT = 256 * 1024 * 1024;

/** Up to what a timer can wait. */
const time = v.pipe(positive, v.maxValue(2 ** 31 - 1));
const port = v.pipe(v.number(), v.integer('a port'), v.minValue(0), v.maxValue(65535));
const schema = v.strictObject({
  models: v.custom<Readonly<Record<string, Servable>>>(
    (models) => typeof models === 'object' && models !== null && Object.keys(models).length > 0,
    'at least one session by its name',
  ),
  host: v.optional(v.pipe(v.string(), v.nonEmpty('a host name')), '127.0.0.1'),
  port: v.optional(port, 8000),
  grpcPort: v.optional(port),
  token: v.optional(
    v.pipe(
      v.string(),
      v.minLength(LEAST_TOKEN_CHARACTERS, `a token of at least ${LEAST_TOKEN_CHARACTERS} characters`),
      v.regex(/^[\x21-\x7e]+$/, 'a token of visible ASCII characters'),
    ),
  ),
  tls: v.optional(v.strictObject({ cert: v.string(), key: v.string(), ca: v.optional(v.string()) })),
  limits: v.optional(
    v.strictObject({
      bodyBytes: v.optional(count, 64 * 1024 * 1024),
      bytesInFlight: v.optional(count),
      tensors: v.optional(count, 256),
      elements: v.optional(count, 2 ** 24),
      connections: v.optional(count, 4096),
    }),
    {},
  ),
  timeouts: v.optional(
    v.strictObject({
      headersMs: v.optional(time, 10_000),
      requestMs: v.optional(time, 60_000),
      keepAliveMs: v.optional(time, 65_000),
      predictMs: v.optional(time, 30_000),
      drainMs: v.optional(v.pipe(nonNegative, v.maxValue(2 ** 31 - 1)), 10_000),
    }),
    {},
  ),
  status: v.optional(
    v.custom<(model: string) => Readonly<Record<string, unknown>>>((status) => typeof status === 'function', 'a function'),
    () => () => ({}),
  ),
  log: v.optional(
    v.union([
      v.picklist(['debug', 'info', 'warn', 'error', 'silent']),
      v.custom<Logger>((log) => typeof (log as Logger | null)?.isLevelEnabled === 'function', 'a level, or a logger of pino'),
    ]),
    'info',
  ),
  logEvery: v.optional(v.pipe(nonNegative, v.integer('a whole number')), 0),
});

const isSecret = (path: string) => path === 'token' || path === 'tls.key';

/**
 * Serves models through the Open Inference Protocol over HTTP, and over gRPC where it is given a port.
 *
 * @example
 * const session = await HotSwapSession.load('model.onnx', undefined, { maxBatch: 64 });
 * const server = await serve({ models: { mlp: session }, port: 8000 });
 * await session.warmUp();
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const { log: given, tls, token, status: ofModel, ...checked } = parseOptions(schema, options, 'serve', isSecret);
  const { host, timeouts, grpcPort, limits } = checked;
  const bytesInFlight = limits.bytesInFlight ?? Math.max(BYTES_IN_FLIGHT, 4 * limits.bodyBytes);
  const expected = `at least twice limits.bodyBytes (${limits.bodyBytes})`;
  expectOption(bytesInFlight >= 2 * limits.bodyBytes, 'serve: limits.bytesInFlight', expected, bytesInFlight);
  const log = typeof given === 'string' ? pino({ level: given }, pino.destination({ dest: 2, sync: false })) : given;
  const inFlight = new BytesInFlight(
    bytesInFlight,
    seldom((refused) => log.warn({ refused, limit: bytesInFlight }, 'requests above the limit of bytes in flight were refused')),
  );
  const tellOfGuesses = seldom((refused) => log.warn({ refused }, 'admin requests were refused after too many wrong tokens'));
  const guesses = token === undefined ? null : new Guesses(token, tellOfGuesses);
  const status = (): ServerStatus => ({
    requests: inFlight.figures,
    guesses: guesses?.figures ?? { wrong: 0, refused: 0 },
  });
  const shared = {
    ...checked,
    models: new ServedModels(checked.models),
    tls: tls && readTls(tls),
    inFlight,
    log,
  };
  const http = await listening(`${host}:${checked.port}`, () => startHttpServer({ ...shared, guesses, status, ofModel }));
  const quiet = logStrategies(log);
  const closeHttp = (): Promise<void> => {
    quiet();
    return http.close();
  };
  const running = (port: number | null, close: () => Promise<void>): RunningServer => ({
    url: http.url,
    port: http.port,
    grpcPort: port,
    get status() {
      return status();
    },
    close,
  });
  if (grpcPort === undefined) return running(null, closeHttp);
  try {
    const { predictMs, requestMs } = timeouts;
    const options = { ...shared, port: grpcPort, predictMs, requestMs };
    const grpc = await listening(`${host}:${grpcPort}`, () => startGrpcServer(options));
    return running(grpc.address.port, async () => void (await Promise.all([closeHttp(), grpc.close(timeouts.drainMs)])));
  } catch (error) {
    await closeHttp();
    throw error;
  }
}

/** Lets the log say which strategy sessions take, and why. Returns what ends that. */
function logStrategies(log: Logger): () => void {
  const tell = (observation: unknown): void => {
    const { at, taken, reason } = observation as StrategyObserved;
    log.info({ model: at, strategy: taken }, reason);
  };
  channels.strategy.subscribe(tell);
  return () => channels.strategy.unsubscribe(tell);
}

/** Starts a server; says which address it could not have, and why. */
async function listening<T>(address: string, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (cause) {
    const { code, syscall } = cause as NodeJS.ErrnoException;
    if (syscall !== 'listen' && syscall !== 'getaddrinfo') throw cause;
    throw new RxgradError('cannotListen', { address, problem: problems[code ?? ''] ?? String(code) }, { cause });
  }
}

const problems: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process has it',
  EACCES: 'this user may not (ports below 1024 are kept for others)',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'there is no such host',
};
