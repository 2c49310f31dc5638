import bearerAuth from '@fastify/bearer-auth';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { isRxgradError, RxgradError } from '../../errors.ts';
import type { Guesses } from '../guesses.ts';
import type { ServedModel, ServedModels } from '../served-models.ts';
import { shownText } from '../shown-text.ts';
import { bodyOf } from './body.ts';
import { type JsonObject, kindOf, readJsonObject } from './read-json.ts';

type AdminRequest = FastifyRequest<{ Params: { readonly model: string } }>;

const empty: JsonObject = Object.freeze({});
const labels = /^[A-Za-z_][\w.-]{0,63}$/;

export interface AdminRoutesOptions {
  readonly models: ServedModels;
  /** Who knows the token; null where there is none. */
  readonly guesses: Guesses | null;
  /** What the server says of itself. */
  status(): unknown;
  /** What its owner says of a model. */
  ofModel(model: string): Readonly<Record<string, unknown>>;
}

/**
 * Routes that change what is served, below `/admin`, for who has the token. Without one they answer 403, whatever they are
 * asked.
 */
export function addAdminRoutes(app: FastifyInstance, { models, guesses, status, ofModel }: AdminRoutesOptions): void {
  app.register(
    async (admin) => {
      if (guesses === null) {
        admin.addHook('onRequest', async () => {
          throw new RxgradError('adminClosed', {});
        });
      } else {
        admin.addHook('onRequest', async (_request, reply) => {
          reply.header('cache-control', 'no-store').header('www-authenticate', 'Bearer');
        });
        await admin.register(bearerAuth, {
          keys: [],
          addHook: false,
          auth: (token, { socket }) => guesses.isRight(token, socket.remoteAddress),
          specCompliance: 'rfc6749',
          verifyErrorLogLevel: 'debug',
        });
        admin.addHook('onRequest', (request, reply, done) => {
          admin.verifyBearerAuth!(request, reply, (error) => {
            if (!error) reply.removeHeader('www-authenticate');
            done(error && !isRxgradError(error) ? new RxgradError('unauthorized', {}) : error);
          });
        });
      }
      admin.get('/status', async () => status());
      addRoutes(admin, models, ofModel);
    },
    { prefix: '/admin' },
  );
}

function addRoutes(admin: FastifyInstance, models: ServedModels, ofModel: AdminRoutesOptions['ofModel']): void {
  const modelOf = (request: AdminRequest) => models.find(request.params.model);
  admin.get('/models/:model/versions', (request: AdminRequest) => versionsOf(modelOf(request)));
  admin.get('/models/:model/status', async (request: AdminRequest) => {
    const { name, ready, session } = modelOf(request);
    return { model: name, version: session.version, ready, ...session.status, ...ofModel(name) };
  });
  admin.post('/models/:model/rollback', async (request: AdminRequest) => {
    const model = modelOf(request);
    const body = bodyIn(request);
    await (body.version === undefined ? model.session.rollback() : model.session.rollback(versionIn(body)));
    return versionsOf(model);
  });
  admin.post('/models/:model/pin', async (request: AdminRequest) => {
    const model = modelOf(request);
    const body = bodyIn(request);
    await (body.version === undefined ? model.session.pin() : model.session.pin(versionIn(body)));
    return versionsOf(model);
  });
  admin.post('/models/:model/unpin', async (request: AdminRequest) => {
    const model = modelOf(request);
    await model.session.unpin();
    return versionsOf(model);
  });
  admin.post('/models/:model/labels', async (request: AdminRequest) => {
    const model = modelOf(request);
    const body = bodyIn(request);
    const version = versionIn(body);
    const label = body.label;
    if (typeof label !== 'string' || !labels.test(label)) {
      const got = typeof label === 'string' ? `"${shownText(label)}"` : kindOf(label);
      throw problemOf('label', 'a letter, and up to 63 letters, digits, dots and dashes', got);
    }
    await model.session.label(version, label);
    return versionsOf(model);
  });
  // Lets the hooks above speak before it comes out which routes there are.
  admin.all('/*', (request) => {
    throw new RxgradError('unknownRoute', { method: request.method, path: shownText(request.url) });
  });
}

async function versionsOf({ name, session }: ServedModel) {
  const versions = await session.versions();
  return {
    model: name,
    live: session.version,
    versions: versions.map(({ version, madeAtMs, position, labels: names, live, pinned, inMemory }) => ({
      version,
      made_at: new Date(madeAtMs).toISOString(),
      position,
      labels: names,
      live,
      pinned,
      in_memory: inMemory,
    })),
  };
}

function bodyIn({ body }: AdminRequest): JsonObject {
  const bytes = bodyOf(body);
  return bytes.length === 0 ? empty : readJsonObject(bytes, 'body');
}

function versionIn(body: JsonObject): number | string {
  const version = body.version;
  if (Number.isSafeInteger(version) && (version as number) >= 0) return version as number;
  if (typeof version === 'string' && labels.test(version)) return version;
  throw problemOf(
    'version',
    'the number of a version, or a label',
    typeof version === 'string' ? `"${shownText(version)}"` : kindOf(version),
  );
}

function problemOf(where: string, expected: string, got: string): RxgradError {
  return new RxgradError('invalidRequest', { where, expected, got });
}
