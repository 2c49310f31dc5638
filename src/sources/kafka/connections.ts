import type { Socket } from 'node:net';

/**
 * The sockets of a transport, or of one member of a group. kafkajs (2.2.4) forgets some: a broker that it knows from before a restart, or
 * a pause of the process, is none of its pool any more, and what it disconnects connects there once again. Such a socket would keep the
 * process alive.
 */
export class Connections {
  readonly #open = new Set<Socket>();
  readonly #reason: string;
  #ended = false;

  /** `reason` is what their users hear as they end. */
  constructor(reason: string) {
    this.#reason = reason;
  }

  /** Whether they were ended: what repeats requests until they are answered then stops. */
  get ended(): boolean {
    return this.#ended;
  }

  add(socket: Socket): void {
    if (this.#ended) socket.destroy(new Error(this.#reason));
    else this.#open.add(socket.once('close', () => this.#open.delete(socket)));
  }

  /** Ends those that are left, and any that is still to come. */
  end(): void {
    this.#ended = true;
    // kafkajs hears of errors, and not of a socket that merely closes.
    for (const socket of this.#open) socket.destroy(socket.writableEnded ? undefined : new Error(this.#reason));
  }
}
