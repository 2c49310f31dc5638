import type { TopicSettings } from './transport.ts';

/** What a topic holds: events to train on, checkpoints, published weights, or rejected records. */
export type TopicRole = 'gradients' | 'checkpoints' | 'weights' | 'dead-letters';

/** What a use of a topic needs in addition to what its role needs. */
export interface TopicNeeds {
  /** Bytes of the largest record that is written, with its key and headers. */
  readonly recordBytes?: number | undefined;
  /** Whether the topic is read up to a time. Default false. */
  readonly byTime?: boolean | undefined;
}

/** A setting of a topic that does not fit its role. */
export interface TopicFinding {
  /** An error loses or skips records, or makes writing fail. A warning does so only under further faults. */
  readonly severity: 'error' | 'warning';
  readonly topic: string;
  /** The setting's name in Kafka. */
  readonly setting: string;
  readonly found: string;
  readonly expected: string;
  /** What happens otherwise. */
  readonly why: string;
  /** The command that mends it, for a POSIX shell; for a log without brokers, what to do. */
  readonly mend: string;
}

type Found = Omit<TopicFinding, 'topic' | 'mend'> & { readonly mend: readonly string[] };
type Rule = (settings: TopicSettings, role: TopicRole, needs: TopicNeeds) => Found | null;

const dayMs = 86_400_000;
const hourMs = 3_600_000;
const usualReplicas = 3;

const compactedReasons = {
  gradients: 'a later record with the same key replaces gradients that are not applied yet, so a recovery applies only the rest',
  'dead-letters': 'a letter has the key of its record, so a later letter with that key replaces it',
};
const deletingReasons = {
  checkpoints: 'checkpoints are deleted with age, and training then restarts from version 0 in the middle of the log',
  weights: 'the last snapshot is deleted with age, and a replica that starts then finds no weights',
};
const retentionReasons = {
  gradients: 'a trainer that is down for longer cannot resume from its checkpoint',
  'dead-letters': 'letters are deleted before somebody can look at them',
};

const rules: readonly Rule[] = [
  function keepsAllRecords(settings, role) {
    if ((role !== 'gradients' && role !== 'dead-letters') || !settings.compacted) return null;
    return {
      severity: 'error',
      setting: 'cleanup.policy',
      found: policyOf(settings),
      expected: 'delete',
      why: compactedReasons[role],
      mend: ['cleanup.policy=delete'],
    };
  },
  function keepsTheNewestOfEachKey(settings, role) {
    if ((role !== 'checkpoints' && role !== 'weights') || (settings.compacted && !settings.deletes)) return null;
    const why = settings.deletes
      ? deletingReasons[role]
      : `replaced ${role} are kept for ever, and every start reads all of them`;
    return {
      severity: settings.deletes ? 'error' : 'warning',
      setting: 'cleanup.policy',
      found: policyOf(settings),
      expected: 'compact',
      why,
      mend: ['cleanup.policy=compact'],
    };
  },
  function takesTheLargestRecord({ maxMessageBytes }, _, { recordBytes = 0 }) {
    if (maxMessageBytes === null || maxMessageBytes >= recordBytes) return null;
    return {
      severity: 'error',
      setting: 'max.message.bytes',
      found: `${maxMessageBytes}`,
      expected: `at least ${recordBytes}`,
      why: 'records of that size are written, and the broker refuses them',
      mend: [`max.message.bytes=${recordBytes}`],
    };
  },
  function keepsRecordsForADay({ retentionMs }, role) {
    if ((role !== 'gradients' && role !== 'dead-letters') || retentionMs === null || retentionMs >= dayMs) return null;
    return {
      severity: 'warning',
      setting: 'retention.ms',
      found: `${retentionMs}`,
      expected: `at least ${dayMs} (one day)`,
      why: retentionReasons[role],
      mend: [`retention.ms=${7 * dayMs}`],
    };
  },
  function deletesByAgeAlone({ retentionBytes }, role) {
    if (role !== 'gradients' || retentionBytes === null) return null;
    return {
      severity: 'warning',
      setting: 'retention.bytes',
      found: `${retentionBytes}`,
      expected: '-1 (no limit)',
      why: 'records are deleted by size, however young, so no warning can come in time before a checkpoint is overtaken',
      mend: ['retention.bytes=-1'],
    };
  },
  function keepsMarksForAnHour({ compacted, deleteRetentionMs }, role) {
    if ((role !== 'checkpoints' && role !== 'weights') || !compacted) return null;
    if (deleteRetentionMs === null || deleteRetentionMs >= hourMs) return null;
    return {
      severity: 'warning',
      setting: 'delete.retention.ms',
      found: `${deleteRetentionMs}`,
      expected: `at least ${hourMs} (one hour)`,
      why: `a reader that takes longer misses that ${role} were removed`,
      mend: [`delete.retention.ms=${dayMs}`],
    };
  },
  function survivesABroker({ replicas, brokers }) {
    const fewest = fewestOf(replicas);
    if (fewest !== 1 || brokers.length === 1) return null;
    return {
      severity: 'warning',
      setting: 'replication factor',
      found: '1',
      expected: `${Math.min(usualReplicas, brokers.length)} (there are ${brokers.length} brokers)`,
      why: 'the loss of one broker loses all records of its partitions',
      mend: ['replicas'],
    };
  },
  function acknowledgesWhatTwoHave({ minInSyncReplicas, replicas, brokers }) {
    const fewest = fewestOf(replicas);
    if (minInSyncReplicas !== 1 || fewest < 2) return null;
    const more = fewest < usualReplicas && brokers.length >= usualReplicas;
    return {
      severity: 'warning',
      setting: 'min.insync.replicas',
      found: '1',
      expected: more ? '2, of 3 replicas' : '2',
      why: 'a record that the leader alone has is acknowledged, and is lost with it',
      mend: [...(more ? ['replicas'] : []), 'min.insync.replicas=2'],
    };
  },
  function canAcknowledge({ minInSyncReplicas, replicas }) {
    const fewest = fewestOf(replicas);
    if (minInSyncReplicas === null || fewest === 0 || minInSyncReplicas <= fewest) return null;
    return {
      severity: 'warning',
      setting: 'min.insync.replicas',
      found: `${minInSyncReplicas}`,
      expected: `at most ${fewest}, the number of replicas`,
      why: 'no record can be acknowledged, so all writes fail',
      mend: [`min.insync.replicas=${Math.max(1, fewest - 1)}`],
    };
  },
  function choosesLeadersThatHaveAll({ uncleanLeaders }) {
    if (!uncleanLeaders) return null;
    return {
      severity: 'warning',
      setting: 'unclean.leader.election.enable',
      found: 'true',
      expected: 'false',
      why: 'a replica without the last acknowledged records may become the leader, and their offsets are given to other records',
      mend: ['unclean.leader.election.enable=false'],
    };
  },
  function takesTimesFromOneClock({ times }, role, { byTime = false }) {
    if (role !== 'gradients' || !byTime || times === 'log') return null;
    return {
      severity: 'warning',
      setting: 'message.timestamp.type',
      found: 'CreateTime',
      expected: 'LogAppendTime',
      why: "records have the times of their producers' clocks, so reading up to a time is as exact as those",
      mend: ['message.timestamp.type=LogAppendTime'],
    };
  },
];

/** Compares the settings of a topic with what a role needs. */
export function findingsOf(topic: string, settings: TopicSettings, role: TopicRole, needs: TopicNeeds = {}): TopicFinding[] {
  return rules.flatMap((rule) => {
    const found = rule(settings, role, needs);
    return found ? [{ ...found, topic, mend: commandOf(topic, settings, found.mend) }] : [];
  });
}

function policyOf({ compacted, deletes }: TopicSettings): string {
  return [...(compacted ? ['compact'] : []), ...(deletes ? ['delete'] : [])].join(',') || 'none';
}

/** Of the partition that has the fewest; 0 where there are no brokers. */
function fewestOf(replicas: TopicSettings['replicas']): number {
  return replicas.reduce((fewest, { length }) => Math.min(fewest, length), replicas[0]?.length ?? 0);
}

function commandOf(topic: string, settings: TopicSettings, changes: readonly string[]): string {
  const { server } = settings;
  if (server === null) return 'create another topic with this setting, and use that';
  const commands = changes.map((change) =>
    change === 'replicas'
      ? `echo '${reassignment(topic, settings)}' > replicas.json && kafka-reassign-partitions.sh --bootstrap-server ${server} --reassignment-json-file replicas.json --execute`
      : `kafka-configs.sh --bootstrap-server ${server} --alter --entity-type topics --entity-name ${topic} --add-config ${change}`,
  );
  return commands.join(' && ');
}

/** Adds brokers to those that each partition has, in turn, until it has three or all of them. */
function reassignment(topic: string, { replicas, brokers }: TopicSettings): string {
  const partitions = replicas.map((present, partition) => {
    const others = brokers.filter((broker) => !present.includes(broker));
    const turned = others.map((_, i) => others[(i + partition) % others.length]!);
    return { topic, partition, replicas: [...present, ...turned].slice(0, Math.max(present.length, usualReplicas)) };
  });
  return JSON.stringify({ version: 1, partitions });
}
