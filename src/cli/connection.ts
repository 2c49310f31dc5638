import { type Command, InvalidArgumentError, Option } from 'commander';
import { RxgradError } from '../errors.ts';
import type { Transport } from '../sources/transport.ts';
import { kafkaVariables, securityOfFile } from './kafka-settings.ts';
import { openTransport, type TransportSettings, temporaryLog } from './transport-settings.ts';

/** What the options of {@link addConnectionOptions} parse to. */
export interface ConnectionOptions {
  readonly brokers?: readonly string[];
  readonly kafkaConfig?: string;
  readonly log?: string;
}

export interface Connection {
  readonly transport: Transport;
  readonly settings: TransportSettings;
  close(): Promise<void>;
}

/** Adds the options that say which log a command goes through. */
export function addConnectionOptions(command: Command, { temporary = false } = {}): Command {
  const unnamed = temporary ? ', kept afterwards (default: a temporary one)' : '';
  return command
    .addOption(
      new Option('--brokers <host:port,...>', 'Kafka brokers to go through').argParser(parseBrokers).env('KAFKA_BROKERS'),
    )
    .addOption(
      new Option('--kafka-config <file>', 'JSON with brokers, ssl and sasl, in the place of the variables').env('KAFKA_CONFIG'),
    )
    .addOption(new Option('--log <file>', `embedded log to go through${unnamed}`))
    .addHelpText('after', `\nHow to connect to Kafka is read from these variables (docs/security.md):\n${variableLines()}`);
}

/** Opens the log that a command was told to use; without one, one that lasts as long as the run, where that is allowed. */
export async function openConnection(command: Command, { temporary = false } = {}): Promise<Connection> {
  const named = settingsOf(command);
  if (!named && !temporary) {
    throw new RxgradError('invalidOption', { option: '--brokers', expected: 'it, --kafka-config or --log', got: 'none' });
  }
  const place = named ? null : temporaryLog();
  const settings = named ?? { log: place!.log };
  try {
    const transport = await openTransport(settings);
    return {
      transport,
      settings,
      async close() {
        await transport.close();
        place?.remove();
      },
    };
  } catch (error) {
    place?.remove();
    throw error;
  }
}

/** What was given as an argument goes before what the environment says. */
function settingsOf(command: Command): TransportSettings | null {
  const { brokers, kafkaConfig, log } = command.opts<ConnectionOptions>();
  const given = (name: keyof ConnectionOptions) => command.getOptionValueSource(name) === 'cli';
  if (log !== undefined) {
    const other = given('brokers') ? '--brokers' : given('kafkaConfig') ? '--kafka-config' : null;
    if (other) throw new RxgradError('invalidOption', { option: '--log', expected: 'no other log with it', got: other });
    return { log };
  }
  if (kafkaConfig === undefined) return brokers ? { brokers } : null;
  const chosen = given('brokers') ? brokers : (securityOfFile(kafkaConfig).brokers ?? brokers);
  if (!chosen)
    throw new RxgradError('invalidOption', { option: '--brokers', expected: `it, or brokers in ${kafkaConfig}`, got: 'none' });
  return { brokers: chosen, kafkaConfig };
}

function parseBrokers(text: string): string[] {
  const brokers = text.split(',').map((broker) => broker.trim());
  const wrong = brokers.find((broker) => !/^(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}$/.test(broker));
  if (wrong !== undefined) throw new InvalidArgumentError(`Expected host:port, or several with commas between; got "${wrong}".`);
  return brokers;
}

function variableLines(): string {
  const names = Object.values(kafkaVariables);
  const perLine = 3;
  return Array.from(
    { length: Math.ceil(names.length / perLine) },
    (_, i) => `  ${names.slice(i * perLine, (i + 1) * perLine).join(', ')}`,
  ).join('\n');
}
