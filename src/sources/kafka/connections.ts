import type { Socket } from 'node:net';

/**
 * The sockets of a transport. kafkajs (2.2.4) forgets some: a broker that it knows from before a restart, or a pause of the process, is
 * none of its pool any more, and what it disconnects connects there once again. Such a socket would keep the process alive.
 */
export class Connections {
  readonly #open = new Set<Socket>();
  #ended = false;

  /** Whether the transport was closed: what repeats requests until they are answered then stops. */
  get ended(): boolean {
    return this.#ended;
  }

  add(socket: Socket): void {
    if (this.#ended) socket.destroy(new Error('the transport was closed'));
    else this.#open.add(socket.once('close', () => this.#open.delete(socket)));
  }

  /** Ends those that are left, and any that is still to come. */
  end(): void {
    this.#ended = true;
    for (const socket of this.#open) socket.destroy(new Error('the transport was closed'));
  }
}
