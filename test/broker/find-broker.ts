import { defaultImage, startContainerBroker } from './container-broker.ts';
import { clusterMissing, ProcessCluster } from './process-cluster.ts';
import { messageOf, waitUntilReady } from './wait-until-ready.ts';

export interface FoundBroker {
  /** Addresses, comma-separated; null where no road leads to a broker. */
  readonly brokers: string | null;
  /** Which road it was; without a broker, why each of them ended. */
  readonly how: string;
  /** Ends what was started for it. */
  stop(): Promise<void>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** A broker, or the reason why there is none on this road. Throws when there should be one and it does not work. */
type Road = (environment: Environment) => Promise<FoundBroker | string>;

const roads = { container, process: plainProcess } satisfies Record<string, Road>;

/**
 * Finds a Kafka broker for the integration tests: the one that KAFKA_BROKERS names, else one in a container where a Docker
 * engine answers, else one as a process where Java and Maven are. RXGRAD_BROKER=container or =process allows this one road
 * only, and its end is then an error.
 */
export async function findBroker(environment: Environment = process.env): Promise<FoundBroker> {
  const only = environment.RXGRAD_BROKER;
  if (only) {
    if (!isRoad(only)) throw new Error(`RXGRAD_BROKER: expected ${Object.keys(roads).join(' or ')}, got "${only}"`);
    const found = await roads[only](environment);
    if (typeof found === 'string') throw new Error(`RXGRAD_BROKER is ${only}, but ${found}`);
    return found;
  }
  const reasons: string[] = [];
  for (const road of [named, ...Object.values(roads)]) {
    const found = await road(environment);
    // That nobody named a broker explains nothing here; a container that should have started does.
    if (typeof found !== 'string') return { ...found, how: [found.how, ...reasons.slice(1)].join('; ') };
    reasons.push(found);
  }
  return { brokers: null, how: reasons.join('; '), stop: async () => {} };
}

function isRoad(name: string): name is keyof typeof roads {
  return Object.hasOwn(roads, name);
}

async function named(environment: Environment): Promise<FoundBroker | string> {
  const brokers = environment.KAFKA_BROKERS;
  if (!brokers) return 'KAFKA_BROKERS is not set';
  await waitUntilReady(brokers, 20_000).catch((cause) => {
    throw new Error(`KAFKA_BROKERS is ${brokers}, but ${messageOf(cause)}`, { cause });
  });
  return { brokers, how: `KAFKA_BROKERS ${brokers}`, stop: async () => {} };
}

async function container(environment: Environment): Promise<FoundBroker | string> {
  const image = environment.KAFKA_IMAGE || defaultImage;
  try {
    const { brokers, stop } = await startContainerBroker(image);
    return { brokers, how: `container ${brokers} (${image})`, stop };
  } catch (error) {
    const message = messageOf(error);
    if (/container runtime/i.test(message)) return `no Docker engine answers (${message})`;
    return `no container of ${image} starts (${message})`;
  }
}

async function plainProcess(): Promise<FoundBroker | string> {
  const missing = await clusterMissing();
  if (missing) return `no process can be started (${missing})`;
  const cluster = await ProcessCluster.start();
  return { brokers: cluster.brokers, how: `process ${cluster.brokers}`, stop: () => cluster.stop() };
}
