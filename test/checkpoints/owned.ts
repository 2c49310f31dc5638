import type { CheckpointStore } from 'rxgrad';

/** Takes a store over, as a training does when it starts, and gives it back. */
export async function owned<S extends CheckpointStore>(store: S): Promise<S> {
  await store.takeOver?.();
  return store;
}
