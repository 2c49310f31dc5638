import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { Server, ServerCredentials } from '@grpc/grpc-js';

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** Connections at a time; those above are closed at once. */
  readonly maxConnections: number;
}

export interface Listener {
  readonly address: AddressInfo;
  /** Takes no new connections; resolves when those that there are have ended. */
  stop(): Promise<void>;
  /** Cuts those that there are. */
  cut(): void;
}

/**
 * Listens for a gRPC server. grpc-js would do so itself, but opens as many connections as come, tells of a port that is taken
 * without the error's code, and without channelz it does not know which connections to cut.
 */
export async function listen(
  server: Server,
  credentials: ServerCredentials,
  { host, port, maxConnections }: ListenOptions,
): Promise<Listener> {
  const injector = server.createConnectionInjector(credentials);
  const sockets = new Set<Socket>();
  const listener = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // What HTTP/2 has not taken over yet, or not any more, ends without a word.
    socket.on('error', () => socket.destroy());
    injector.injectConnection(socket);
  });
  listener.maxConnections = maxConnections;
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen({ host, port }, () => {
      listener.off('error', reject);
      resolve();
    });
  });
  return {
    address: listener.address() as AddressInfo,
    stop: () => new Promise((resolve) => listener.close(() => resolve())),
    cut() {
      for (const socket of sockets) socket.destroy();
    },
  };
}
