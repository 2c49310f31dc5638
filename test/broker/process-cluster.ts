import { execFile } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { brokerSettings } from './broker-settings.ts';
import { ProcessBroker, quickStart } from './process-broker.ts';
import { messageOf, waitUntilReady } from './wait-until-ready.ts';

const run = promisify(execFile);
const host = '127.0.0.1';

export interface ProcessClusterOptions {
  /** One node, or three of which any one may fail. Default: 1. */
  readonly nodes?: 1 | 3;
  /** For more than tests: Java may spend time on being fast for hours. Default false. */
  readonly lasting?: boolean;
  /** Settings of Kafka beside or instead of the usual ones. */
  readonly properties?: Readonly<Record<string, string>>;
  /** Places to connect to beside the usual one, by name. */
  readonly listeners?: Readonly<Record<string, Listener>>;
  /** Users that log in by SCRAM, as `SCRAM-SHA-256=[name=…,password=…]`. */
  readonly scramUsers?: readonly string[];
}

export interface Listener {
  readonly protocol: 'PLAINTEXT' | 'SSL' | 'SASL_PLAINTEXT' | 'SASL_SSL';
  /** Settings of this listener alone, without their prefix. */
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
  readonly #addresses: ReadonlyMap<string, string>;

  private constructor(nodes: readonly ProcessBroker[], folder: string, addresses: ReadonlyMap<string, string>) {
    this.nodes = nodes;
    this.#folder = folder;
    this.#addresses = addresses;
  }

  /** Starts all nodes; resolves when a consumer group can commit. */
  static async start(options: ProcessClusterOptions = {}): Promise<ProcessCluster> {
    const { nodes: count = 1, lasting = false, properties = {}, listeners = {}, scramUsers = [] } = options;
    const jars = await kafkaJars();
    const folder = await mkdtemp(join(tmpdir(), 'rxgrad-kafka-'));
    const names = Object.keys(listeners);
    const ports = await freePorts((2 + names.length) * count);
    const usual = ports.slice(0, 2 * count);
    const addresses = ports.slice(2 * count).map((port) => `${host}:${port}`);
    const nodes = Array.from({ length: count }, (_, index) => {
      const id = index + 1;
      const own = Object.fromEntries(names.map((name, i) => [name, addresses[index * names.length + i]!]));
      const settings = withListeners({ ...brokerSettings(count), ...nodeSettings(id, usual), ...properties }, listeners, own);
      const address = `${host}:${ports[index]}`;
      return new ProcessBroker({
        id,
        address,
        jars,
        folder: join(folder, `${id}`),
        java: [count === 1 ? '-Xmx1g' : '-Xmx512m', ...(lasting ? [] : quickStart)],
        properties: settings,
        scramUsers,
      });
    });
    const cluster = new ProcessCluster(nodes, folder, new Map(names.map((name, i) => [name, addresses[i]!])));
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

  /** Where the first node listens under this name. */
  addressOf(listener: string): string {
    return this.#addresses.get(listener)!;
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

function withListeners(
  settings: Readonly<Record<string, string>>,
  listeners: Readonly<Record<string, Listener>>,
  addresses: Readonly<Record<string, string>>,
): Record<string, string> {
  const all: Record<string, string> = { ...settings };
  for (const [name, { protocol, properties = {} }] of Object.entries(listeners)) {
    all.listeners += `,${name}://${addresses[name]}`;
    all['advertised.listeners'] += `,${name}://${addresses[name]}`;
    all['listener.security.protocol.map'] += `,${name}:${protocol}`;
    for (const [key, value] of Object.entries(properties)) all[`listener.name.${name.toLowerCase()}.${key}`] = value;
  }
  return all;
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
