import { RxgradError } from '../errors.ts';
import { findingsOf, type TopicFinding, type TopicNeeds, type TopicRole } from './topic-rules.ts';
import type { TopicSettings, Transport } from './transport.ts';

export type { TopicFinding, TopicNeeds, TopicRole };

/** A transport, as far as it is asked how a topic is set. */
export type ToldSettings = Pick<Transport, 'topicSettings'> & { readonly name?: string };

/** How long settings count as known: everything that starts at once asks one time. */
const knownForMs = 60_000;
const longestMend = 1000;
const known = new WeakMap<
  ToldSettings,
  Map<string, { readonly settings: Promise<TopicSettings | null>; readonly untilMs: number }>
>();
const warned = new Set<string>();

/**
 * Compares the settings of a topic with what its role needs ([the rules](../../docs/operations.md#topic-settings)), errors first. Everything
 * that uses a topic asks this at its start: findings of severity `'error'` end it, the others are warnings of the process.
 * `rxgrad topics check` prints them. Rejects with `unknownTopic` where there is no such topic. Returns none for a transport that has no
 * settings, and one warning where this user is not allowed to see them.
 *
 * @example
 * const findings = await checkTopic(transport, 'checkpoints', 'checkpoints', { recordBytes: 901_000 });
 */
export async function checkTopic(
  transport: ToldSettings,
  topic: string,
  role: TopicRole,
  needs: TopicNeeds = {},
): Promise<TopicFinding[]> {
  if (!transport.topicSettings) return [];
  const settings = await settingsOf(transport, topic);
  if (!settings) return [unknown(topic)];
  const findings = findingsOf(topic, settings, role, needs);
  // Whoever mends it and tries again is not told what was.
  if (findings.some(isError)) known.get(transport)?.delete(topic);
  return findings.sort((a, b) => Number(isError(b)) - Number(isError(a)));
}

/** Fails where a topic cannot be used in a role, with the commands that mend it, and warns of what else is found, once a process. */
export async function requireFit(transport: ToldSettings, topic: string, role: TopicRole, needs: TopicNeeds = {}): Promise<void> {
  const findings = await checkTopic(transport, topic, role, needs);
  const { name: log = 'a log' } = transport;
  for (const finding of findings) if (!isError(finding)) warnOf(log, role, finding);
  const problems = findings.filter(isError).map(inWords);
  if (problems.length > 0) throw new RxgradError('unfitTopic', { log, topic, role, problems: problems.join('. ') });
}

/** A finding in one line. */
export function inWords({ severity, setting, found, expected, why, mend }: TopicFinding): string {
  return `${setting} is ${found}, but ${severity === 'error' ? 'must' : 'should'} be ${expected}: ${why}. To change it: ${mend}`;
}

function isError({ severity }: TopicFinding): boolean {
  return severity === 'error';
}

function settingsOf(transport: ToldSettings, topic: string): Promise<TopicSettings | null> {
  const topics = known.get(transport) ?? new Map();
  known.set(transport, topics);
  const before = topics.get(topic);
  if (before && performance.now() < before.untilMs) return before.settings;
  const settings = transport.topicSettings!(topic);
  const asked = { settings, untilMs: performance.now() + knownForMs };
  topics.set(topic, asked);
  settings.catch(() => {
    if (topics.get(topic) === asked) topics.delete(topic);
  });
  return settings;
}

function unknown(topic: string): TopicFinding {
  return {
    severity: 'warning',
    topic,
    setting: 'DESCRIBE_CONFIGS',
    found: 'not allowed',
    expected: 'allowed',
    why: "the topic's settings cannot be checked, and a wrong one may lose records silently",
    mend: `kafka-acls.sh --add --allow-principal User:NAME --operation DescribeConfigs --topic ${topic}`,
  };
}

function warnOf(log: string, role: TopicRole, finding: TopicFinding): void {
  const { topic, setting, mend } = finding;
  const key = JSON.stringify([log, topic, setting]);
  if (warned.has(key)) return;
  warned.add(key);
  const short = mend.length > longestMend ? { ...finding, mend: `see rxgrad topics check ${topic} --as ${role}` } : finding;
  const code = setting === 'DESCRIBE_CONFIGS' ? 'RXGRAD_TOPIC_SETTINGS_UNKNOWN' : 'RXGRAD_TOPIC_SETTINGS';
  process.emitWarning(`${log}, topic "${topic}": ${inWords(short)}`, { code });
}
