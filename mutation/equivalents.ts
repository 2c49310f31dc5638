/** Mutants that no test can notice, since they do the same: by what the line holds, so that the list outlives edits beside it. */
export interface Equivalent {
  readonly file: string;
  /** What the line of the mutant has in it. */
  readonly code: string;
  /** What takes the place of a part of it; without: whatever does. */
  readonly becomes?: string;
  readonly reason: string;
}

const gate = 'src/gates/running-gate.ts';
const kafka = 'src/checkpoints/kafka-checkpoints.ts';
const letter = 'src/sinks/dead-letter.ts';
const codec = 'src/sources/codec.ts';
const knownAgain = 'a header is known again only to save reading it';
const nobodyHears = 'what is published where nobody has subscribed, nobody hears';

export const equivalents: readonly Equivalent[] = [
  { file: gate, code: '#left: Iterator', reason: 'a candidate on held-out examples gets its own before any is taken' },
  { file: gate, code: '#busy = false;', becomes: 'true', reason: 'the constructor sets it to true itself' },
  { file: gate, code: '#woken = false;', becomes: 'true', reason: 'the constructor sets it to false before it is looked at' },
  {
    file: gate,
    code: 'if (candidate === null && fallback === null) return;',
    reason: 'saves the work of scoring the live version alone, which decides nothing',
  },
  {
    file: 'src/gates/roles.ts',
    code: 'if (labels.length > 1 || version === liveVersion) return;',
    becomes: 'false',
    reason: 'a version that is live is not let go by forget either',
  },
  {
    file: 'src/gates/empirical-bernstein.ts',
    code: 'if (this.#count === 0) return {',
    becomes: 'false',
    reason: 'of no examples the sum below comes to the widest interval, too',
  },
  { file: 'src/gates/empirical-bernstein.ts', code: '> 1e-9 * outside', reason: 'says how exact the interval is that is told' },
  {
    file: 'src/params/slot-table.ts',
    code: 'facts[at + VERSION]',
    becomes: 'at - VERSION',
    reason: 'the version is the first of the facts: VERSION is 0',
  },
  {
    file: 'src/params/slot-table.ts',
    code: 'slot * FACTS + VERSION',
    becomes: 'slot * FACTS - VERSION',
    reason: 'the version is the first of the facts: VERSION is 0',
  },
  {
    file: 'src/params/slot-views.ts',
    code: 'readonly #views:',
    reason: 'what has no address is never taken for the views of a buffer',
  },
  {
    file: 'src/params/tensor-file.ts',
    code: 'isSizes(offsets) ? offsets : []',
    becomes: '["Stryker was here"]',
    reason: 'offsets that are no sizes are refused in the next line',
  },
  {
    file: 'src/params/state-dict.ts',
    code: '.exec(name) ?? []',
    becomes: '["Stryker was here"]',
    reason: 'the first place is skipped, and there is no parameter in any case',
  },
  {
    file: 'src/params/state-dict.ts',
    code: 'if (number > FORMAT)',
    becomes: 'number >= FORMAT',
    reason: 'the format itself was accepted in the line before',
  },
  {
    file: 'src/params/parameters.ts',
    code: "if (specs[name]!.data) noteFinite(this, index, 'all', address);",
    becomes: 'true',
    reason: 'zeros are finite: saves a look at them',
  },
  {
    file: 'src/params/readers.ts',
    code: 'if (ended.size === this.#endedSeen) return;',
    becomes: 'false',
    reason: 'saves a search where no further thread has ended; marks that were cleared are cleared again',
  },
  {
    file: 'src/optimizers/execution.ts',
    code: 'readonly beside = ',
    reason: 'says how a message is taken in, not what comes of it',
  },
  {
    file: 'src/optimizers/optimizer-state.ts',
    code: 'if (initial === 0) return;',
    becomes: 'false',
    reason: 'memory comes as zeros: saves filling it again',
  },
  {
    file: 'src/optimizers/rejections.ts',
    code: 'if (channels.rejection.hasSubscribers)',
    becomes: 'true',
    reason: 'what is published where nobody has subscribed is heard by nobody',
  },
  {
    file: 'src/optimizers/running-scan.ts',
    code: 'if (!this.#out.closed) end();',
    becomes: 'true',
    reason: 'an observer that is closed takes neither an end nor an error',
  },
  {
    file: 'src/inference/pool.ts',
    code: 'if (this.#queue.size === 0 || this.#closed) return;',
    reason: 'saves a look at a queue that is empty; closing empties it',
  },
  {
    file: 'src/checkpoints/file-checkpoints.ts',
    code: 'if (await isFile(this.#file(version))) await owner.remove',
    becomes: 'true',
    reason: 'an owner that removes a file that is not there does not fail either',
  },
  { file: kafka, code: 'if (end! > index.next) {', becomes: 'true', reason: 'of what has nothing new, nothing is read' },
  {
    file: kafka,
    code: 'if (end! > index.next) {',
    becomes: 'end! >= index.next',
    reason: 'of what has nothing new, nothing is read',
  },
  {
    file: 'src/checkpoints/place-in-log.ts',
    code: 'if (topicId !== null && log?.topics.some',
    becomes: 'log.topics',
    reason: 'without facts of a log, there is no last record, and the function has returned',
  },
  {
    file: 'src/checkpoints/replay.ts',
    code: "if ('version' in to) return version <= to.version;",
    becomes: 'true',
    reason: 'only checkpoints up to that version are looked at',
  },
  {
    file: 'src/checkpoints/sealer.ts',
    code: 'byteLength > AT_ONCE_BYTES',
    becomes: 'byteLength >= AT_ONCE_BYTES',
    reason: 'a file of just that size is the same, whichever thread copies',
  },
  { file: 'src/checkpoints/recover.ts', code: 'if (channels.recovery.hasSubscribers)', becomes: 'true', reason: nobodyHears },
  { file: 'src/sinks/checkpoint.ts', code: 'if (channels.checkpoint.hasSubscribers)', becomes: 'true', reason: nobodyHears },
  { file: 'src/sinks/hot-swap.ts', code: 'if (channels.swap.hasSubscribers)', becomes: 'true', reason: nobodyHears },
  {
    file: 'src/sources/progress.ts',
    code: 'if (!channels.progress.hasSubscribers) continue;',
    becomes: 'false',
    reason: nobodyHears,
  },
  {
    file: 'src/sinks/checkpoint.ts',
    code: 'options.params?.version ?? -1',
    becomes: '+1',
    reason: 'after an update, more was handled than the nothing that is taken, whatever its version',
  },
  {
    file: letter,
    code: 'if (!event) return { value: null };',
    becomes: 'false',
    reason: 'what cannot be encoded has no value, either',
  },
  { file: letter, code: 'place ?? { position: null }', becomes: '{}', reason: 'it is only asked whether there is one' },
  {
    file: 'src/sinks/dead-letters.ts',
    code: 'if (!isRxgradError(error)) throw error;',
    becomes: 'false',
    reason: 'what has neither a key nor a disposition is thrown below',
  },
  { file: codec, code: "if (value === undefined || typeof value === 'string')", becomes: 'true', reason: knownAgain },
  {
    file: codec,
    code: "if (value === undefined || typeof value === 'string')",
    becomes: "typeof value !== 'string'",
    reason: knownAgain,
  },
  { file: codec, code: 'if (sameBytes(value, last)) return lastText;', becomes: 'false', reason: knownAgain },
  {
    file: 'src/sources/log-schema.ts',
    code: '  readLogId(where, database);',
    becomes: ';',
    reason: 'the id is read, and so checked, again when the ends beside the log are opened',
  },
];
