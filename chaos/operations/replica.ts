import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { type Following, followWeights } from '../../src/cli/serve/replica.ts';
import { HotSwapSession, type Transport } from '../../src/index.ts';
import type { Role } from './world.ts';

const model = fileURLToPath(new URL('../../test/models/mlp.onnx', import.meta.url));

/** Follows the weights that the trainer publishes, up to its last version. */
export class Replica implements Role {
  readonly name = 'replica';
  readonly #session: HotSwapSession;
  readonly #following: Following;
  readonly #version: number;

  private constructor(session: HotSwapSession, following: Following, version: number) {
    this.#session = session;
    this.#following = following;
    this.#version = version;
  }

  static async follow(transport: Transport, topic: string, version: number): Promise<Replica> {
    const session = await HotSwapSession.load(model);
    const place = { topic, model: 'model', requests: undefined };
    return new Replica(session, followWeights(transport, place, session, pino({ level: 'silent' })), version);
  }

  async finished(timeoutMs: number): Promise<string[]> {
    for (const endMs = Date.now() + timeoutMs; Date.now() < endMs; await delay(100)) {
      if (this.#session.version === this.#version) return [];
    }
    const { state, problem } = this.#following.status;
    return [`the replica is at version ${this.#session.version}, not ${this.#version} (${state}: ${problem})`];
  }

  async end(): Promise<string[]> {
    this.#following.stop();
    await this.#session.dispose();
    return [];
  }
}
