import { execFile } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { brokerSettings } from './broker-settings.ts';
import { ProcessBroker } from './process-broker.ts';
import { messageOf, waitUntilReady } from './wait-until-ready.ts';

const run = promisify(execFile);
const host = '127.0.0.1';

export interface ProcessClusterOptions {
  /** One node, or three of which any one may fail. Default: 1. */
  readonly nodes?: 1 | 3;
  /** Settings of Kafka beside or instead of the usual ones. */
  readonly properties?: Readonly<Record<string, string>>;
}

/**
 * Apache Kafka as plain processes, with ports and data of its own.
 *
 * @example
 * const cluster = await ProcessCluster.start({ nodes: 3 });
 * await cluster.nodes[1].kill();
 * await cluster.nodes[1].start();
 * await cluster.stop();
 */
export class ProcessCluster {
  readonly nodes: readonly ProcessBroker[];
  readonly #folder: string;

  private constructor(nodes: readonly ProcessBroker[], folder: string) {
    this.nodes = nodes;
    this.#folder = folder;
  }

  /** Starts all nodes; resolves when a consumer group can commit. */
  static async start({ nodes: count = 1, properties = {} }: ProcessClusterOptions = {}): Promise<ProcessCluster> {
    const jars = await kafkaJars();
    const folder = await mkdtemp(join(tmpdir(), 'rxgrad-kafka-'));
    const ports = await freePorts(2 * count);
    const nodes = Array.from({ length: count }, (_, index) => {
      const id = index + 1;
      const settings = { ...brokerSettings(count), ...nodeSettings(id, ports), ...properties };
      const address = `${host}:${ports[index]}`;
      return new ProcessBroker({
        id,
        address,
        jars,
        folder: join(folder, `${id}`),
        heap: count === 1 ? '1g' : '512m',
        properties: settings,
      });
    });
    const cluster = new ProcessCluster(nodes, folder);
    try {
      const clusterId = randomBytes(16).toString('base64url').replace(/^-/, 'A');
      await Promise.all(nodes.map((node) => node.format(clusterId)));
      await Promise.all(nodes.map((node) => node.start()));
      await waitUntilReady(cluster.brokers);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** All addresses, comma-separated. */
  get brokers(): string {
    return this.nodes.map(({ address }) => address).join(',');
  }

  /** Ends all nodes and removes their data. */
  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Why no cluster can be started on this machine; empty where one can. */
export async function clusterMissing(): Promise<string> {
  const missing: string[] = [];
  await run('java', ['-version']).catch(() => missing.push('java not found'));
  await kafkaJars().catch((error) => missing.push(messageOf(error)));
  return missing.join(', ');
}

async function kafkaJars(): Promise<string> {
  try {
    const { stdout } = await run('bash', [new URL('../../docker/jars.sh', import.meta.url).pathname]);
    return stdout.trim();
  } catch (error) {
    const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    throw new Error(stderr.split('\n')[0] || messageOf(error), { cause: error });
  }
}

/** The first half of `ports` is for clients, the second for controllers. */
function nodeSettings(id: number, ports: readonly number[]): Record<string, string> {
  const count = ports.length / 2;
  const client = `PLAINTEXT://${host}:${ports[id - 1]}`;
  const voters = ports.slice(count).map((port, index) => `${index + 1}@${host}:${port}`);
  return {
    'node.id': String(id),
    'process.roles': 'broker,controller',
    listeners: `${client},CONTROLLER://${host}:${ports[count + id - 1]}`,
    'advertised.listeners': client,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    'controller.quorum.voters': voters.join(','),
  };
}

/** Ports that nobody listens at, below the range that Linux gives to outgoing connections: they stay free over a restart. */
async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = randomInt(20_000, 30_000);
    const server = createServer();
    const free = once(server.listen(port, host), 'listening').then(
      () => true,
      () => false,
    );
    if (await free) ports.add(port);
    server.close();
  }
  return [...ports];
}
