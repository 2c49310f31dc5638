import { readFile } from 'node:fs/promises';
import type { OnceState } from '../events.ts';
import { factsIfAny } from './checkpoint-file.ts';
import { type LogToGoOnIn, placeInLog, type SourcePlace } from './place-in-log.ts';

/**
 * Where a topic goes on after a state dict (its bytes, or a path) that `Parameters.loadStateDict` takes: what the state contains of the log
 * comes no second time. Null where it contains nothing of that topic, as a checkpoint of torch or braintools. Another log of the
 * same name, or one that does not hold what comes next any more, is refused.
 *
 * @example
 * params.loadStateDict('state.safetensors');
 * const place = await placeOfState('state.safetensors', { transport, topic: 'gradients' });
 * fromTransport(transport, { topic: 'gradients', ...(place ?? { from: 'beginning' }) })
 */
export async function placeOfState(
  state: Uint8Array | string,
  log: LogToGoOnIn,
): Promise<(SourcePlace & { readonly seen?: OnceState | undefined }) | null> {
  const [file, where] = typeof state === 'string' ? [await readFile(state), state] : [state, 'the state dict'];
  const facts = factsIfAny(file, where);
  if (!facts?.positions.some(([of]) => of === log.topic)) return null;
  return { ...(await placeInLog(facts, log, where)), seen: facts.seen };
}
