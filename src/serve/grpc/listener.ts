import { type AddressInfo, createServer } from 'node:net';
import type { Server, ServerCredentials } from '@grpc/grpc-js';

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** Connections at a time; those above are closed at once. */
  readonly maxConnections: number;
}

/**
 * Listens for a gRPC server. grpc-js would do so itself, but opens as many connections as come, and tells of a port that is
 * taken without the error's code.
 */
export async function listen(
  server: Server,
  credentials: ServerCredentials,
  { host, port, maxConnections }: ListenOptions,
): Promise<{ readonly address: AddressInfo; stop(): void }> {
  const injector = server.createConnectionInjector(credentials);
  const listener = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
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
  return { address: listener.address() as AddressInfo, stop: () => void listener.close() };
}
