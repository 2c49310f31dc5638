import { setTimeout as delay } from 'node:timers/promises';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, LogController } from 'fastify';
import type { Logger } from 'pino';
import { isRxgradError, RxgradError } from '../../errors.ts';
import type { BytesInFlight } from '../bytes-in-flight.ts';
import type { Guesses } from '../guesses.ts';
import { seldom } from '../seldom.ts';
import type { ServedModels } from '../served-models.ts';
import { shownText } from '../shown-text.ts';
import { addAdminRoutes } from './admin-routes.ts';
import { answerError, errorBody } from './answer-error.ts';
import { readBodies } from './body.ts';
import { refuseMalformed } from './malformed.ts';
import { addProtocolRoutes } from './protocol-routes.ts';
import { nameAnswer, requestId, requestLogger, traceOf } from './requests.ts';

const IDLE_CHECK_MS = 50;

/** As `serve` has checked them. */
export interface HttpServerOptions {
  readonly models: ServedModels;
  readonly host: string;
  readonly port: number;
  /** Who knows the token of the admin routes; null where they are closed. */
  readonly guesses: Guesses | null;
  readonly inFlight: BytesInFlight;
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string | undefined } | undefined;
  /** What the server says of itself. */
  readonly status: () => unknown;
  /** What its owner says of a model. */
  readonly ofModel: (model: string) => Readonly<Record<string, unknown>>;
  readonly log: Logger;
  readonly logEvery: number;
  readonly limits: {
    readonly bodyBytes: number;
    readonly tensors: number;
    readonly elements: number;
    readonly connections: number;
  };
  readonly timeouts: {
    readonly headersMs: number;
    readonly requestMs: number;
    readonly keepAliveMs: number;
    readonly predictMs: number;
    readonly drainMs: number;
  };
}

export interface HttpServer {
  readonly url: string;
  readonly port: number;
  /** Stops being ready, takes no new connections, waits for requests that are under way up to `drainMs`, and closes. */
  close(): Promise<void>;
}

/** Starts to serve models over HTTP. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { log, limits, timeouts } = options;
  let open = true;
  const app = createApp(options);
  app.server.maxConnections = limits.connections;
  tellOfRefused(app, log);
  app.addHook('onRequest', (request, reply, done) => {
    nameAnswer(request, reply);
    // A connection that stays open would have to be cut in the end.
    if (!open) reply.header('connection', 'close');
    done();
  });
  readBodies(app, limits.bodyBytes, options.inFlight);
  answerErrors(app, log);
  const logged = requestLogger(options);
  app.addHook('onResponse', (request, reply, done) => {
    logged(request, reply);
    done();
  });
  addProtocolRoutes(app, { models: options.models, limits, predictMs: timeouts.predictMs, isOpen: () => open });
  addAdminRoutes(app, options);
  const url = await app.listen({ host: options.host, port: options.port });
  const address = app.server.address();
  const port = typeof address === 'object' && address !== null ? address.port : options.port;
  let closing: Promise<void> | undefined;
  return {
    url,
    port,
    close() {
      open = false;
      closing ??= drain(app, timeouts.drainMs);
      return closing;
    },
  };
}

function createApp({ tls, log, limits, timeouts }: HttpServerOptions): FastifyInstance {
  const server = {
    headersTimeout: timeouts.headersMs,
    // How often Node.js looks for slow clients.
    connectionsCheckingInterval: Math.min(1000, timeouts.headersMs, timeouts.requestMs),
  };
  const app = Fastify({
    ...(tls
      ? { https: { ...server, ...secureOptions(tls), handshakeTimeout: timeouts.headersMs } }
      : { http: server, https: null as never }),
    loggerInstance: log,
    // Lines name their request themselves: a logger for each request would cost more than most predictions.
    childLoggerFactory: (logger) => logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestId as never,
    requestTimeout: timeouts.requestMs,
    // Of a connection on which nothing moves, also because a client takes no answer.
    connectionTimeout: timeouts.predictMs + timeouts.requestMs,
    keepAliveTimeout: timeouts.keepAliveMs,
    bodyLimit: limits.bodyBytes,
    return503OnClosing: false,
    exposeHeadRoutes: true,
    routerOptions: { maxParamLength: 256 },
    clientErrorHandler: refuseMalformed,
    frameworkErrors: answerFrameworkError as never,
  }) as unknown as FastifyInstance;
  return app;
}

function secureOptions({ cert, key, ca }: NonNullable<HttpServerOptions['tls']>) {
  const clients = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true };
  return { cert, key, minVersion: 'TLSv1.2' as const, ...clients };
}

/** Of paths that cannot be read, before there is a route. */
function answerFrameworkError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const { status, message } = answerError(error);
  nameAnswer(request, reply);
  reply.code(status).header('content-type', 'application/json; charset=utf-8').send(errorBody(message));
}

function answerErrors(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler((error, request, reply) => {
    const { status, message, retry } = answerError(error);
    if (status === 500) {
      const { traceId } = traceOf(request);
      log.error({ requestId: request.id, traceId, err: isRxgradError(error) ? { message } : error }, 'request failed');
    }
    if (retry) reply.header('retry-after', String(retry));
    // The rest of the request, which nobody reads, would have to come before the next one.
    if (!request.raw.complete) reply.header('connection', 'close');
    reply.code(status).header('content-type', 'application/json; charset=utf-8').send(errorBody(message));
  });
  app.setNotFoundHandler((request) => {
    throw new RxgradError('unknownRoute', { method: request.method, path: shownText(request.url) });
  });
}

/** Says that connections above the limit were refused, not more than once in a while. */
function tellOfRefused(app: FastifyInstance, log: Logger): void {
  const limit = app.server.maxConnections;
  app.server.on(
    'drop',
    seldom((refused) => log.warn({ refused, limit }, 'connections above the limit were refused')),
  );
}

async function drain(app: FastifyInstance, drainMs: number): Promise<void> {
  const abort = new AbortController();
  // Answers to requests from before the end may have promised to keep the connection.
  const idle = setInterval(() => app.server.closeIdleConnections(), IDLE_CHECK_MS);
  try {
    const closed = app.close();
    await Promise.race([closed, delay(drainMs, undefined, { signal: abort.signal }).catch(() => {})]);
    abort.abort();
    app.server.closeAllConnections();
    await closed;
  } finally {
    clearInterval(idle);
  }
}
