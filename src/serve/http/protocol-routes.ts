import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RxgradError } from '../../errors.ts';
import { infer } from '../infer.ts';
import { decodedBytes } from '../infer-request.ts';
import { modelConfig, modelMetadata, modelStatistics, repositoryIndex, serverMetadata } from '../metadata.ts';
import type { ServedModel, ServedModels } from '../served-models.ts';
import { shownText } from '../shown-text.ts';
import { bodyOf, countDecoded } from './body.ts';
import { type InferLimits, readInfer } from './read-infer.ts';
import { readJsonObject } from './read-json.ts';
import { connectionSignal, originOf } from './requests.ts';
import { writeInfer } from './write-infer.ts';

export interface ProtocolRoutesOptions {
  readonly models: ServedModels;
  readonly limits: InferLimits;
  /** How long a prediction may take, the wait for it included. */
  readonly predictMs: number;
  /** Whether the server takes requests, and will go on to. */
  isOpen(): boolean;
}

interface ModelParams {
  readonly model: string;
  readonly version?: string;
}

type ModelRequest = FastifyRequest<{ Params: ModelParams }>;

const json = 'application/json; charset=utf-8';

/** Routes of the Open Inference Protocol over HTTP, and those of Triton's extensions that `tritonclient` asks for. */
export function addProtocolRoutes(app: FastifyInstance, options: ProtocolRoutesOptions): void {
  const { models } = options;
  app.get('/v2', () => serverMetadata());
  app.get('/v2/health/live', () => ({ live: true }));
  app.get('/v2/health/ready', (_request, reply) => {
    const ready = options.isOpen() && models.ready;
    const all = [...models].map(({ name, ready: isWarm, session }) => ({
      name,
      ready: isWarm,
      providers: session.status.providers ?? [],
    }));
    reply.code(ready ? 200 : 503).send({ live: true, ready, models: all });
  });
  app.get('/v2/models/stats', () => ({ model_stats: [...models].map(modelStatistics) }));
  app.post('/v2/repository/index', (request) => {
    const body = bodyOf(request.body);
    return repositoryIndex(models, body.length > 0 && readJsonObject(body, 'body').ready === true);
  });

  for (const path of ['/v2/models/:model', '/v2/models/:model/versions/:version']) {
    app.get(path, async (request: ModelRequest) => modelMetadata(await modelOf(request)));
    app.get(`${path}/config`, async (request: ModelRequest) => modelConfig(await modelOf(request)));
    app.get(`${path}/stats`, async (request: ModelRequest) => ({ model_stats: [modelStatistics(await modelOf(request))] }));
    app.get(`${path}/ready`, async (request: ModelRequest, reply) => {
      const { name, ready: warm } = await modelOf(request);
      const ready = warm && options.isOpen();
      return reply.code(ready ? 200 : 503).send({ name, ready });
    });
    app.post(`${path}/infer`, (request: ModelRequest, reply) => answer(request, reply, options));
  }

  for (const [method, path] of unsupported) {
    app.route({
      method,
      url: path,
      handler: async () => {
        throw new RxgradError('unsupportedRequest', { what: path.replaceAll(/:(\w+)/g, '{$1}') });
      },
    });
  }

  async function modelOf({ params }: ModelRequest): Promise<ServedModel> {
    const model = models.find(params.model);
    await model.assertVersion(params.version ?? null);
    return model;
  }
}

/** What `tritonclient` can ask for, and gets a word on why not. */
const unsupported: readonly (readonly [('GET' | 'POST')[], string])[] = [
  [['POST'], '/v2/models/:model/generate'],
  [['POST'], '/v2/models/:model/generate_stream'],
  [['POST'], '/v2/repository/models/:model/load'],
  [['POST'], '/v2/repository/models/:model/unload'],
  [['GET', 'POST'], '/v2/models/:model/trace/setting'],
  [['GET', 'POST'], '/v2/trace/setting'],
  [['GET', 'POST'], '/v2/logging'],
  [['GET', 'POST'], '/v2/systemsharedmemory/*'],
  [['GET', 'POST'], '/v2/cudasharedmemory/*'],
];

async function answer(request: ModelRequest, reply: FastifyReply, options: ProtocolRoutesOptions): Promise<FastifyReply> {
  const { model: name, version } = request.params;
  const model = options.models.find(name);
  const headerLength = headerLengthOf(request);
  const asked = readInfer(model, version ?? null, bodyOf(request.body), headerLength, options.limits);
  countDecoded(request, decodedBytes(asked.inputs), headerLength !== null);
  const deadlineMs = deadlineOf(request, options.predictMs);
  const signal = connectionSignal(request.raw.socket);
  const response = await infer(options.models, asked, { signal, deadlineMs, origin: () => originOf(request) });
  if (!options.isOpen()) reply.header('connection', 'close');
  const body = writeInfer(asked, response);
  if (typeof body === 'string') return reply.header('content-type', json).send(body);
  reply.header('content-type', 'application/octet-stream');
  reply.header('inference-header-content-length', body.headerLength);
  return reply.send(body.bytes);
}

function headerLengthOf({ headers }: FastifyRequest): number | null {
  const text = headers['inference-header-content-length'];
  if (text === undefined) return null;
  if (typeof text === 'string' && /^\d{1,15}$/.test(text)) return Number(text);
  throw invalidHeader('Inference-Header-Content-Length', 'a number of bytes', String(text));
}

function deadlineOf({ headers }: FastifyRequest, most: number): number {
  const text = headers['x-request-timeout-ms'];
  if (text === undefined) return most;
  const asked = typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (asked > 0) return Math.min(asked, most);
  throw invalidHeader('X-Request-Timeout-Ms', 'milliseconds above 0', String(text));
}

function invalidHeader(where: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidRequest', { where, expected, got: shownText(got) });
}
