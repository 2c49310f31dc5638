import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Command } from 'commander';
import { describe, expect, it, type TestContext, vi } from 'vitest';
import { addConnectionOptions, openConnection } from '../../src/cli/connection.ts';
import { kafkaVariables } from '../../src/cli/kafka-settings.ts';

type Environment = Readonly<Record<string, string>>;

function parsed(t: TestContext, args: readonly string[], environment: Environment = {}, options = {}): Command {
  for (const name of ['KAFKA_BROKERS', 'KAFKA_CONFIG', ...Object.values(kafkaVariables)]) vi.stubEnv(name, environment[name]);
  t.onTestFinished(() => void vi.unstubAllEnvs());
  const command = addConnectionOptions(new Command('test').exitOverride(), options).action(() => {});
  command.parse(args, { from: 'user' });
  return command;
}

/** Which log it was. */
async function settings(t: TestContext, args: readonly string[], environment: Environment = {}, options = {}): Promise<unknown> {
  const connection = await openConnection(parsed(t, args, environment, options), options);
  await connection.close();
  return connection.settings;
}

function folderWith(t: TestContext, files: Environment): string {
  const folder = mkdtempSync(`${tmpdir()}/rxgrad-connection-`);
  t.onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(`${folder}/${name}`, text);
  return folder;
}

describe('a command that goes through a log', () => {
  it('takes arguments before the environment', async (t) => {
    const folder = folderWith(t, { 'own.json': '{ "brokers": ["own:1"] }', 'none.json': '{}' });
    const [own, none] = [`${folder}/own.json`, `${folder}/none.json`];
    const environment = { KAFKA_BROKERS: 'environment:1', KAFKA_CONFIG: none };
    expect(await settings(t, [], { KAFKA_BROKERS: 'a:1, b:2' })).toEqual({ brokers: ['a:1', 'b:2'] });
    expect(await settings(t, ['--brokers', 'argument:1'], environment)).toEqual({ brokers: ['argument:1'], kafkaConfig: none });
    expect(await settings(t, ['--kafka-config', own], environment)).toEqual({ brokers: ['own:1'], kafkaConfig: own });
    expect(await settings(t, [], environment)).toEqual({ brokers: ['environment:1'], kafkaConfig: none });
    expect(await settings(t, ['--log', `${folder}/log.db`], environment)).toEqual({ log: `${folder}/log.db` });
  });

  it('makes a temporary one only where that is allowed', async (t) => {
    expect(await settings(t, [], {}, { temporary: true })).toEqual({ log: expect.stringContaining('rxgrad-') });
    await expect(settings(t, [])).rejects.toThrow('--brokers: expected it, --kafka-config or --log, got none');
  });

  it.for<[string[], string]>([
    [['--log', 'x', '--brokers', 'a:1'], '--log: expected no other log with it, got --brokers'],
    [['--log', 'x', '--kafka-config', 'y'], '--log: expected no other log with it, got --kafka-config'],
    [['--kafka-config', 'missing.json'], 'missing.json: expected the name of a file that can be read, got ENOENT'],
  ])('refuses %j', async ([args, message], t) => {
    await expect(settings(t, args)).rejects.toThrow(message);
  });

  it('needs brokers from somewhere', async (t) => {
    const folder = folderWith(t, { 'none.json': '{}' });
    const message = `--brokers: expected it, or brokers in ${folder}/none.json, got none`;
    await expect(settings(t, ['--kafka-config', `${folder}/none.json`])).rejects.toThrow(message);
  });

  it('names its variables in its help, and none of their values', (t) => {
    const all = Object.values(kafkaVariables);
    const environment = { KAFKA_BROKERS: 'shown:1', ...Object.fromEntries(all.map((name) => [name, `value-of-${name}`])) };
    const command = parsed(t, [], environment);
    const written: string[] = [];
    command.configureOutput({ writeOut: (text) => written.push(text) }).outputHelp();
    const help = written.join('');
    for (const name of ['KAFKA_BROKERS', 'KAFKA_CONFIG', ...all]) expect(help).toContain(name);
    expect(help).not.toContain('value-of');
  });
});
