import { setTimeout as delay } from 'node:timers/promises';
import type { Cluster } from './kafka-cluster.ts';
import { isPassing } from './kafka-error.ts';

interface Coordinator {
  joinGroup(request: object): Promise<unknown>;
  syncGroup(request: object): Promise<unknown>;
  leaveGroup(request: object): Promise<unknown>;
  heartbeat(request: object): Promise<unknown>;
  offsetFetch(request: object): Promise<OffsetAnswer>;
  offsetCommit(request: object): Promise<unknown>;
}

interface OffsetAnswer {
  readonly responses: readonly {
    readonly topic: string;
    readonly partitions: readonly { readonly partition: number; readonly offset: string }[];
  }[];
}

export interface MemberCoordinatorContext {
  /** Whether the member has left, or is about to: nothing is asked again then. */
  readonly over: () => boolean;
  /** The group has answered a heartbeat that was sent at that time. */
  readonly known: (sentMs: number) => void;
  /** Where a partition goes on of which the group has acknowledged nothing; null where that is not known here. */
  readonly next: (partition: number) => number | null;
}

const retryDelayMs = 250;
/** How long fetches wait for the answer of a heartbeat, which may be that they have to end. */
const patienceMs = 500;

/**
 * Lets a member of a group outlast that its coordinator moves, restarts or hangs: it looks for the new one and goes on as the same member.
 * kafkajs 2.2.4 asks the old one until it has failed often enough to begin a new membership, which may begin only when the session of the
 * old one has ended; and while a heartbeat is not answered, it fetches nothing from any broker.
 */
export function lastingCoordinator(cluster: Cluster, { over, known, next }: MemberCoordinatorContext): void {
  const find = cluster.findGroupCoordinator.bind(cluster) as (question: object) => Promise<Coordinator>;
  let newest: object | null = null;

  cluster.findGroupCoordinator = async (question) => {
    const self = {};
    newest = self;
    let current: Coordinator | null = await find(question);
    let beating: Promise<void> | null = null;
    let failure: { readonly error: unknown } | null = null;

    const isCurrent = (): boolean => newest === self && !over();

    async function once<T>(ask: (coordinator: Coordinator) => Promise<T>): Promise<T> {
      try {
        current ??= await find(question);
        return await ask(current);
      } catch (error) {
        if (isPassing(error)) current = null;
        throw error;
      }
    }

    async function lasting<T>(ask: (coordinator: Coordinator) => Promise<T>): Promise<T> {
      for (;;) {
        try {
          return await once(ask);
        } catch (error) {
          if (!isPassing(error) || !isCurrent()) throw error;
        }
        await delay(retryDelayMs);
      }
    }

    async function beat(request: object): Promise<void> {
      try {
        await lasting(async (coordinator) => {
          const sentMs = Date.now();
          await coordinator.heartbeat(request);
          if (isCurrent()) known(sentMs);
        });
      } catch (error) {
        failure = { error };
      }
    }

    return {
      // kafkajs asks anew for the coordinator itself before it tries again to join.
      joinGroup: (request: object) => once((coordinator) => coordinator.joinGroup(request)),
      syncGroup: (request: object) => once((coordinator) => coordinator.syncGroup(request)),
      leaveGroup: (request: object) => once((coordinator) => coordinator.leaveGroup(request)),
      offsetCommit: (request: object) => once((coordinator) => coordinator.offsetCommit(request)),
      async offsetFetch(request: object): Promise<OffsetAnswer> {
        const answer = await lasting((coordinator) => coordinator.offsetFetch(request));
        return withKnown(answer, next);
      },
      async heartbeat(request: object): Promise<void> {
        beating ??= beat(request).finally(() => {
          beating = null;
        });
        await Promise.race([beating, delay(patienceMs, undefined, { ref: false })]);
        const failed = failure;
        failure = null;
        if (failed) throw failed.error;
      },
      isConnected: () => true,
    };
  };
}

/** kafkajs asks the leaders of all partitions where it does not know one, and fetches nothing until each has answered. */
function withKnown({ responses, ...rest }: OffsetAnswer, next: MemberCoordinatorContext['next']): OffsetAnswer {
  const filled = responses.map(({ partitions, ...topic }) => ({
    ...topic,
    partitions: partitions.map((found) => {
      const known = Number(found.offset) < 0 ? next(found.partition) : null;
      return known === null ? found : { ...found, offset: String(known) };
    }),
  }));
  return { ...rest, responses: filled };
}
