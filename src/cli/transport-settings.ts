import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedLog } from '../sources/embedded-log.ts';
import type { Transport } from '../sources/transport.ts';
import { securityOfEnvironment, securityOfFile } from './kafka-settings.ts';

/**
 * Which log to use, as plain data: also for other threads, which open it for themselves. It holds no secret: how to log in is
 * read, from the file or the environment, where the log is opened.
 */
export type TransportSettings =
  | {
      readonly brokers: readonly string[];
      /** A file of JSON with `ssl` and `sasl`; by default the environment says it. */
      readonly kafkaConfig?: string;
    }
  | { readonly log: string };

/** Opens the log. kafkajs is loaded only where it is used. */
export async function openTransport(settings: TransportSettings): Promise<Transport> {
  if ('log' in settings) return embeddedLog(settings.log);
  const { kafkaTransport } = await import('../sources/kafka/index.ts');
  const { brokers, kafkaConfig } = settings;
  const security = kafkaConfig === undefined ? securityOfEnvironment(process.env) : securityOfFile(kafkaConfig);
  return kafkaTransport({ ...security, brokers });
}

/** Makes a place for a log that lasts as long as the run. */
export function temporaryLog(): { readonly log: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'rxgrad-'));
  return { log: join(folder, 'log.db'), remove: () => rmSync(folder, { recursive: true, force: true }) };
}
