import type { Consumption } from './transport.ts';

/** Stops all consumptions, and those that are begun meanwhile: one that is left would keep the process alive. */
export async function stopAll(consumptions: Set<Consumption>): Promise<void> {
  while (consumptions.size > 0) {
    const all = [...consumptions];
    await Promise.all(all.map((consumption) => consumption.stop()));
    for (const stopped of all) consumptions.delete(stopped);
  }
}
