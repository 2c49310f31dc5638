import type { AddressInfo } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { type HandlerOptions, inferenceHandlers } from './inference-handlers.ts';
import { listen } from './listener.ts';
import { inferenceService } from './service-definition.ts';

export interface GrpcServerOptions extends HandlerOptions {
  readonly host: string;
  /** 0 takes one that is free. */
  readonly port: number;
  /** PEM. Default: no TLS. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
  /** Bytes of a request, also after it is decompressed. */
  readonly bodyLimit: number;
  readonly maxConnections: number;
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
  const { host, port, tls, bodyLimit, maxConnections, maxStreams = 256, idleMs = 300_000, keepaliveMs = 60_000 } = options;
  const server = new Server({
    'grpc.max_receive_message_length': bodyLimit,
    'grpc.max_concurrent_streams': maxStreams,
    'grpc.max_connection_idle_ms': idleMs,
    'grpc.keepalive_time_ms': keepaliveMs,
    'grpc.keepalive_timeout_ms': 20_000,
    'grpc.enable_channelz': 0,
  });
  server.addService(inferenceService, inferenceHandlers(options));
  const credentials = tls
    ? ServerCredentials.createSsl(null, [{ private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.cert) }])
    : ServerCredentials.createInsecure();
  const { address, stop } = await listen(server, credentials, { host, port, maxConnections });

  async function shutdown(drainMs: number): Promise<void> {
    stop();
    const cutOff = setTimeout(() => server.forceShutdown(), drainMs);
    await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
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
