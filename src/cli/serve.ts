import { Command } from 'commander';
import { addConnectionOptions } from './connection.ts';
import { addOptions } from './options.ts';
import { serveOptions } from './serve/options.ts';

/** Makes the command `serve`. */
export function serveCommand(): Command {
  const command = new Command('serve')
    .summary('serve models over HTTP and gRPC')
    .description(
      'Serves models through the Open Inference Protocol, version 2, over HTTP and gRPC; with --weights-from as replicas of\n' +
        'what is trained elsewhere. Ends with SIGTERM or SIGINT, once requests that are under way are answered.',
    )
    .argument('<model.onnx...>', 'ONNX files; each is served under its name without .onnx');
  addConnectionOptions(addOptions(command, serveOptions));
  return command.action(async (files: readonly string[]) => {
    // Other commands need no server, and none of what it loads.
    const { execute } = await import('./serve/execute.ts');
    await execute(command, files);
  });
}
