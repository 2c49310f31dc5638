import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { TestContext } from 'vitest';

/** Opens a connection to a port of this machine. */
export async function open(t: Pick<TestContext, 'onTestFinished'>, port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  t.onTestFinished(() => {
    socket.destroy();
  });
  await once(socket, 'connect');
  return socket;
}

/** Sends bytes as they are, and reads up to the end of the connection. */
export async function exchange(t: Pick<TestContext, 'onTestFinished'>, port: number, text: string): Promise<string> {
  const socket = await open(t, port);
  socket.write(text, 'latin1');
  return readAll(socket);
}

export async function readAll(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
  });
  await once(socket, 'close');
  return text;
}
