import type { Admin } from 'kafkajs';
import type { Transport } from '../../src/index.ts';
import type { ProcessCluster } from '../../test/broker/process-cluster.ts';
import type { Training } from '../training.ts';

/** Something that goes on through all faults, and comes to an end that can be checked. */
export interface Role {
  readonly name: string;
  /** Resolves when it has come to the end of what was produced; what is missing where that takes longer. */
  finished(timeoutMs: number): Promise<string[]>;
  /** Ends it, and says what is not as it has to be. */
  end(): Promise<string[]>;
}

/** A role whose processes may be killed, paused and started again. */
export interface ProcessRole extends Role {
  readonly running: readonly Training[];
  /** Starts a process in the place of one that is gone, or one more. */
  start(): void;
}

/** What a schedule plays on. */
export interface World {
  readonly cluster: ProcessCluster;
  readonly admin: Admin;
  readonly transport: Transport;
  readonly processes: readonly ProcessRole[];
  /** Topics in use, and how many partitions each has. */
  readonly topics: ReadonlyMap<string, number>;
}
