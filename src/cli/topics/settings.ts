import { RxgradError } from '../../errors.ts';
import type { TopicSettings, Transport } from '../../sources/transport.ts';

/** The settings of a topic, or an error where this user is not allowed to see them. */
export async function requiredSettings(transport: Transport, topic: string): Promise<TopicSettings> {
  const settings = await transport.topicSettings?.(topic);
  if (settings) return settings;
  throw new RxgradError('transportFailed', {
    transport: transport.name,
    problem: `not authorized to see the settings of topic "${topic}"`,
    advice: "Give this client's user the right DESCRIBE_CONFIGS on it",
  });
}
