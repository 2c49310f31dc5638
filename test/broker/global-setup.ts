import type { TestProject } from 'vitest/node';
import { findBroker } from './find-broker.ts';
import { clusterMissing } from './process-cluster.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Addresses of a Kafka broker, comma-separated, or null where there is none. */
    brokers: string | null;
    /** Why there is no broker; empty where there is one. */
    brokersMissing: string;
    /** Why a test cannot start brokers of its own with `ProcessCluster`; empty where it can. */
    clusterMissing: string;
  }
}

/** Finds a broker for all integration tests before the first one, and ends it after the last. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const { brokers, how, stop } = await findBroker();
  console.log(`broker: ${brokers ? how : `none (${how})`}`);
  project.provide('brokers', brokers);
  project.provide('brokersMissing', brokers ? '' : how);
  project.provide('clusterMissing', await clusterMissing());
  return stop;
}
