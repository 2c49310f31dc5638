import { type Command, InvalidArgumentError, Option } from 'commander';
import type { PipelineOption } from './pipeline.ts';

/** Adds options to a command, in their order. */
export function addOptions(command: Command, options: readonly PipelineOption[]): Command {
  for (const option of options) command.addOption(commanderOption(option));
  return command;
}

function commanderOption({ flags, summary, default: value, number, choices, required }: PipelineOption): Option {
  const option = new Option(flags, summary);
  if (value !== undefined) option.default(value);
  if (number) option.argParser((text) => parseNumber(text, number));
  if (choices) option.choices(choices);
  if (required) option.makeOptionMandatory();
  return option;
}

/** Reads a number, any or a whole one. */
export function parseNumber(text: string, kind: 'whole' | 'any'): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.');
  if (kind === 'whole' && !Number.isSafeInteger(value)) throw new InvalidArgumentError('Expected a whole number.');
  return value;
}
