import type { AddressInfo } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { BytesInFlight } from '../bytes-in-flight.ts';
import { countCalls } from './counted-calls.ts';
import type { InferLimits } from './infer-messages.ts';
import { type HandlerOptions, inferenceHandlers } from './inference-handlers.ts';
import { listen } from './listener.ts';
import { inferenceService } from './service-definition.ts';

export interface GrpcServerOptions extends Omit<HandlerOptions, 'ready'> {
  readonly host: string;
  /** 0 takes one that is free. */
  readonly port: number;
  /** PEM. With `ca`, only clients with a certificate of its are let in. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string | undefined } | undefined;
  readonly inFlight: BytesInFlight;
  /** Milliseconds until a message is there as a whole. */
  readonly requestMs: number;
  readonly limits: InferLimits & { readonly bodyBytes: number; readonly connections: number };
  /** Calls at a time on one connection. Default 256. */
  readonly maxStreams?: number;
  /** Milliseconds after which a connection without a call is closed; its client opens another when it needs one. Default 5 minutes. */
  readonly idleMs?: number;
  /** Milliseconds between two looks at whether the other end of a connection is still there. Default 1 minute. */
  readonly keepaliveMs?: number;
}

export interface RunningGrpcServer {
  readonly address: AddressInfo;
  /** Takes no new call, and waits for those under way; what is not done after `drainMs` is cut off. */
  close(drainMs: number): Promise<void>;
}

/** Serves the Open Inference Protocol over gRPC. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<RunningGrpcServer> {
  const { host, port, limits, maxStreams = 256, idleMs = 300_000, keepaliveMs = 60_000 } = options;
  const server = new Server({
    'grpc.max_receive_message_length': limits.bodyBytes,
    'grpc.max_concurrent_streams': maxStreams,
    'grpc.max_connection_idle_ms': idleMs,
    'grpc.keepalive_time_ms': keepaliveMs,
    'grpc.keepalive_timeout_ms': 20_000,
    'grpc.enable_channelz': 0,
    interceptors: [countCalls(options.inFlight, limits.bodyBytes, options.requestMs)],
  });
  let open = true;
  server.addService(inferenceService, inferenceHandlers({ ...options, ready: () => open && options.models.ready }));
  const where = { host, port, maxConnections: limits.connections };
  const { address, stop, cut } = await listen(server, credentialsOf(options), where);

  async function shutdown(drainMs: number): Promise<void> {
    open = false;
    const ended = stop();
    const cutOff = setTimeout(cut, drainMs);
    // Its own end is no measure: it does not count calls on connections that it did not open.
    server.tryShutdown(() => {});
    await ended;
    clearTimeout(cutOff);
  }

  let closing: Promise<void> | null = null;
  return {
    address,
    close(drainMs) {
      closing ??= shutdown(drainMs);
      return closing;
    },
  };
}

function credentialsOf({ tls }: GrpcServerOptions): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  const { cert, key, ca } = tls;
  const own = { private_key: Buffer.from(key), cert_chain: Buffer.from(cert) };
  return ServerCredentials.createSsl(ca === undefined ? null : Buffer.from(ca), [own], ca !== undefined);
}
