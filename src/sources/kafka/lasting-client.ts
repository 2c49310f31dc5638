import type { Admin, Producer } from 'kafkajs';
import { closedTransport } from '../topic-bounds.ts';

/** One connection that is made when first needed, kept, and made anew after it failed or was dropped. */
export function lasting<Client extends Admin | Producer>(name: string, create: () => Client) {
  let current: Promise<Client> | null = null;
  let over = false;

  async function connect(): Promise<Client> {
    const client = create();
    try {
      await client.connect();
      return client;
    } catch (error) {
      current = null;
      throw error;
    }
  }

  async function drop(): Promise<void> {
    const dropped = current;
    current = null;
    await dropped?.then((client) => client.disconnect()).catch(() => undefined);
  }

  return {
    connected: async (): Promise<Client> => {
      if (over) throw closedTransport(name);
      current ??= connect();
      return current;
    },
    drop,
    /** Drops it for good. */
    async close(): Promise<void> {
      over = true;
      await drop();
    },
  };
}
