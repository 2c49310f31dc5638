import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { TestContext } from 'vitest';
import { RxgradError } from '../../../src/errors.ts';
import { type GrpcServerOptions, startGrpcServer } from '../../../src/serve/grpc/grpc-server.ts';
import { type OpenServable, openServable } from '../../../src/serve/open-servable.ts';
import { ServedModels } from '../../../src/serve/served-models.ts';
import { everythingModel, linearModel } from '../everything-model.ts';

/** A gRPC server of the test's own, with the lines of its log. */
export async function serveGrpc(
  context: TestContext,
  options: Partial<Omit<GrpcServerOptions, 'limits'>> & { readonly limits?: Partial<GrpcServerOptions['limits']> } = {},
  { delayMs = 0 } = {},
) {
  const files = { everything: everythingModel(), linear: linearModel() };
  const opened = await Promise.all(Object.entries(files).map(async ([name, onnx]) => [name, await openServable(onnx)] as const));
  for (const [, session] of opened) await session.warmUp();
  const sessions = Object.fromEntries(opened.map(([name, session]) => [name, delayMs > 0 ? slowed(session, delayMs) : session]));
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const server = await startGrpcServer({
    models: new ServedModels(sessions),
    log,
    logEvery: 1,
    predictMs: 30_000,
    tls: undefined,
    host: '127.0.0.1',
    port: 0,
    ...options,
    limits: { bodyBytes: 1 << 20, tensors: 256, elements: 1 << 24, connections: 100, ...options.limits },
  });
  context.onTestFinished(async () => {
    await server.close(0);
    for (const session of Object.values(sessions)) await session.dispose();
  });
  return { server, port: server.address.port, lines, sessions };
}

/** Predictions that wait before they begin, for as long as nobody gives them up. */
function slowed(session: OpenServable, delayMs: number): OpenServable {
  return Object.create(session, {
    predict: {
      async value(...[feeds, options]: Parameters<OpenServable['predict']>) {
        await delay(delayMs, undefined, { signal: options?.signal }).catch((cause: unknown) => {
          throw new RxgradError('predictionAborted', { model: 'slow' }, { cause });
        });
        return session.predict(feeds, options);
      },
    },
  });
}
