import { pino } from 'pino';
import type { TestContext } from 'vitest';
import { HotSwapSession, type HotSwapSessionOptions } from '../../../src/inference/hot-swap-session.ts';
import { BytesInFlight } from '../../../src/serve/bytes-in-flight.ts';
import { type GrpcServerOptions, startGrpcServer } from '../../../src/serve/grpc/grpc-server.ts';

import { ServedModels } from '../../../src/serve/served-models.ts';
import { everythingModel, linearModel } from '../everything-model.ts';

/** A gRPC server of the test's own, with the lines of its log. */
export async function serveGrpc(
  context: TestContext,
  options: Partial<Omit<GrpcServerOptions, 'limits'>> & { readonly limits?: Partial<GrpcServerOptions['limits']> } = {},
  { more = {}, session = {} }: { more?: Readonly<Record<string, Uint8Array>>; session?: HotSwapSessionOptions } = {},
) {
  const files = { everything: everythingModel(), linear: linearModel(), ...more };
  const opened = await Promise.all(
    Object.entries(files).map(async ([name, onnx]) => [name, await HotSwapSession.load(onnx, undefined, session)] as const),
  );
  for (const [, session] of opened) await session.warmUp();
  const sessions = Object.fromEntries(opened);
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const server = await startGrpcServer({
    models: new ServedModels(sessions),
    log,
    logEvery: 1,
    predictMs: 30_000,
    inFlight: new BytesInFlight(2 ** 28),
    requestMs: 60_000,
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
