/**
 * The one table of errors. A key names the class (`unknownParameter` → `UnknownParameterError`) and the code
 * (`RXGRAD_UNKNOWN_PARAMETER`); the disposition says what a caller does: `skip` the event, `retry` the call, `stop`.
 */
const table = {
  notFinite: ['skip', 422, '{where}: expected finite gradients, got NaN or Infinity in {parameters}'],
  unknownParameter: ['skip', 422, '{where}: expected parameters of the model ({expected}), got "{parameter}"'],
  wrongShape: ['skip', 422, '{where}: expected "{parameter}" with dims [{expected}], got [{got}]'],
  wrongType: ['skip', 422, '{where}: expected "{parameter}" as {expected}, got {got}'],
  rowOutOfRange: ['skip', 422, '{where}: expected row numbers of "{parameter}" from 0 to {expected}, got {got}'],
  stale: [
    'skip',
    422,
    '{where}: expected gradients of weights of version {expected} or later (now {version}), got those of version {got}',
  ],
  fromTheFuture: ['skip', 422, '{where}: expected gradients of weights up to version {expected}, got those of version {got}'],
  wrongNorm: ['skip', 422, '{where}: expected {expected} as the norm of the whole gradient, got {got}'],
  normOutlier: [
    'skip',
    422,
    '{where}: expected a gradient norm of at most {expected} (the median of the last ones is {median}), got {got}',
  ],
  emptyBatch: [
    'skip',
    422,
    '{where}: expected at least one tensor in a gradient batch, or the norm of those in other shards, got neither',
  ],
  undecodable: ['skip', 422, '{where}: expected {expected}, got {got}'],
  duplicate: [
    'skip',
    409,
    '{where}: expected each sequence of worker "{worker}" once (the highest is {expected}), got {got} again',
  ],
  outOfOrder: [
    'skip',
    422,
    '{where}: expected {expected} from worker "{worker}", got {got}: too late to know whether it was applied. A worker that begins anew says so by a higher incarnation',
  ],
  corrupted: ['skip', 422, '{where}: expected a value whose crc32 is {expected}, got {got}'],
  weightsGap: [
    'skip',
    409,
    '{where}: expected changes since publication {expected} of shard {shard}, got those since {got}. What follows is left out up to the next snapshot',
  ],
  otherWeights: [
    'skip',
    409,
    '{where}: expected weights of the course of training that is followed ({expected}), got version {version} of another one ({got}). The last ones stay live until that training publishes again; a restart follows the other one',
  ],
  repeatedEpoch: ['skip', 409, '{where}: expected an epoch above {expected}, got {got}'],

  tooManyRejections: [
    'stop',
    500,
    '{count} events in a row were rejected; the last one: {last}. Fix the producer, then start again',
  ],
  invalidOption: ['stop', 400, '{option}: expected {expected}, got {got}'],
  ambiguousMetric: [
    'stop',
    400,
    'The stream reports the metrics "{first}" and "{second}", and reduceLROnPlateau is not told which one to look at: set its option `metric`',
  ],
  weightsNeeded: ['stop', 400, 'Gradients behind {stage} cannot be read before the scan: {advice}'],
  parametersInUse: [
    'stop',
    409,
    'Expected one scan over these Parameters at a time, got a second subscription: unsubscribe the first, or give each its own Parameters',
  ],
  buffersInUse: [
    'retry',
    503,
    'Expected a buffer for weights that nobody reads, but all {count} are being read, and there is no room for another: await params.whenFree(), then load again',
  ],
  kernelThreadFailed: ['stop', 500, 'Expected the threads of the kernel pool to go on, but one failed: {problem}'],
  outOfMemory: ['stop', 507, 'Expected room for {bytes} bytes in the arena, but its WebAssembly memory ends at {limit} bytes'],
  stepUnderWay: ['retry', 409, 'Expected {what} between two steps, but one is under way, or waits: {advice}'],
  invalidCheckpoint: ['stop', 422, '{where}: expected {expected}, got {got}'],
  checkpointFailed: ['retry', 503, '{store}: {what} failed: {problem}'],
  checkpointsFail: ['stop', 503, '{count} checkpoints in a row failed; the last one: {last}'],
  noValidCheckpoint: [
    'stop',
    422,
    '{store}: expected a checkpoint that is whole, but of {count} none is. The newest: {last}. Bring one back, or empty the store to begin anew',
  ],
  brokenCheckpoints: ['stop', 422, '{store}: expected every checkpoint to be whole, but {count} are not; the last one: {last}'],
  unknownVersion: ['stop', 404, '{store}: expected a version that is there ({expected}), got {got}'],
  logTooShort: [
    'stop',
    416,
    '{where}: expected the log to hold offset {expected}, where version {version} goes on, but it has {first} to {last}. Take a checkpoint that it reaches back to, or begin anew: nothing may be left out silently',
  ],
  otherLog: [
    'stop',
    409,
    '{where}: expected the log that version {version} was trained on ({expected}), but this is another one of that name ({got}). Name the right log, or begin anew with an empty store; to go on in this log, say where: rxgrad checkpoint rollback {version} --topic {topic} --skip-to PARTITION:OFFSET',
  ],
  topicReplaced: [
    'stop',
    409,
    'Topic "{topic}": expected the topic with id {expected}, but it was deleted and made anew with id {got}: its records are not those that were read before. Stop what deletes it, then recover from a checkpoint of this log, or begin anew',
  ],
  severalPartitions: [
    'stop',
    409,
    '{where}: expected one partition, whose order makes the weights the same each time, but the topic has {count}. Write the gradients of one model to one partition; train a model for each partition with trainPartitions; read one of them (partitions: [0], --partition 0); or take them as they arrive (partitions: "any-order", --partition any-order), which makes other bits each time',
  ],
  newerFormat: [
    'stop',
    422,
    '{where}: expected a state of format {expected} or older, got format {got}, which a later version of rxgrad has written. Bring every process that trains or reads this model to that version',
  ],
  weightsNotFinite: ['stop', 409, 'Expected finite weights, got NaN or Infinity in version {version}: it does not go live'],
  anotherCourse: [
    'stop',
    409,
    'Expected topic {topic} to hold weights of "{model}" of this course of training ({expected}) alone, got version {version} of another one ({got}). Go on from its checkpoints, publish under another name, or set takeOver',
  ],
  parametersDiffer: ['stop', 409, 'Expected the same parameters on both sides: {differences}'],

  invalidModel: ['stop', 422, '{model}: expected an ONNX model, got {got}'],
  unsupportedModel: ['stop', 422, '{model}: {problem}. {advice}'],
  invalidFeed: ['stop', 400, '{model}: expected input "{input}" {expected}, got {got}'],
  predictionFailed: ['stop', 500, '{model}: onnxruntime could not run it: {problem}'],
  overloaded: [
    'retry',
    429,
    '{model}: expected at most {limit} predictions to wait, and as many do. Try again later, or raise maxQueue',
  ],
  serverFull: [
    'retry',
    503,
    'Expected room for this request among the {limit} bytes of requests that the server holds at a time, but there is none now. Try again later, or raise its limits.bytesInFlight',
  ],
  requestTimeout: ['stop', 408, 'Expected the request as a whole within {requestMs} ms, but it was not there yet'],
  deadlineExceeded: ['stop', 504, '{model}: expected a prediction within {deadlineMs} ms, but it was not there yet'],
  predictionAborted: ['stop', 499, '{model}: the prediction was given up by who asked for it'],
  staleWeights: ['retry', 503, '{model}: expected weights {expected}, got those of version {version}, {got}'],
  notReady: ['retry', 503, '{model}: expected it to be warmed up, but it is not yet'],
  unknownModel: ['stop', 404, 'Expected a model that is served ({expected}), got "{got}"'],
  scoringFails: ['stop', 503, '{model}: {count} scorings of labelled examples in a row failed; the last one: {last}'],
  invalidRequest: ['stop', 400, '{where}: expected {expected}, got {got}'],
  requestTooLarge: ['stop', 413, '{where}: expected at most {expected}, got {got}'],
  unsupportedContent: ['stop', 415, '{where}: expected {expected}, got {got}'],
  unsupportedRequest: ['stop', 501, '{what} is something that other servers of the protocol offer, but not this one'],
  unknownRoute: ['stop', 404, 'Expected a path of the Open Inference Protocol (/v2/...), got {method} {path}'],
  unauthorized: ['stop', 401, 'Expected the token of this server (Authorization: Bearer ...), got none, or another'],
  tooManyGuesses: [
    'retry',
    429,
    'Too many wrong tokens came from this address, so that none is looked at now. Try again in {seconds} s',
  ],
  adminClosed: ['stop', 403, 'Admin routes are closed, because the server was started without a token'],
  cannotListen: ['stop', 503, 'Cannot listen on {address}: {problem}. Free it, or take another port'],
  sessionClosed: ['stop', 409, '{model}: expected an open session, but it was disposed of'],

  transportFailed: ['stop', 503, '{transport}: {problem}. {advice}'],
  transportInterrupted: ['retry', 503, '{transport}: {problem}. {advice}'],
  consumptionStalled: [
    'retry',
    503,
    '{where}: nothing was delivered for {seconds} s, although the log ends at offset {end} and the next offset is {next}: {problem}; brokers answer ({lastHeard}). Subscribe again; if that repeats, report it with the messages of the channel rxgrad:sources:log',
  ],
  damagedLog: [
    'stop',
    422,
    '{where}: {problem}. Bring back a whole copy of the file (with its -wal, if there is one), or begin a new log',
  ],
  unknownTopic: ['stop', 404, '{transport}: expected a topic that exists, got "{topic}". Create it, or check its spelling'],
  unfitTopic: ['stop', 409, '{log}: topic "{topic}" cannot be used for {role}. {problems}'],
  topicDeleted: [
    'stop',
    404,
    '{transport}: topic "{topic}" was deleted while it was read. Find out what deletes it; its records are gone: create it and begin anew, or read another topic',
  ],
  offsetOutOfRange: ['stop', 416, '{where}: expected an offset from {first} to {last}, got {got}'],
  offsetGap: [
    'stop',
    409,
    '{where}: expected a record at offset {expected}, but the next one is at {got}: the records between were removed (by compaction, or out of the files of the log), and gradients among them would be skipped silently. Recover from a checkpoint that contains them, or resume after them (rxgrad checkpoint rollback --skip-to); keep the topic uncompacted (rxgrad topics check)',
  ],
  fenced: [
    'stop',
    409,
    '{where}: {problem}. This one writes no more: let the other go on, or end it before you start this one again',
  ],
  notOwner: [
    'stop',
    409,
    '{store}: {what} is for the owner of the store alone, and this process has not taken it over. Call recover(), or takeOver(), when the training starts: at its first write it could take the store from a newer owner',
  ],
  deadLettersFailed: ['stop', 503, 'Dead letters to "{topic}": {problem}. {advice}'],
  oversizedRecord: ['stop', 413, '{where}: expected a record of at most {expected} bytes, got {got}'],

  unsupportedRuntime: [
    'stop',
    500,
    'rxgrad needs Node.js {expected} or later (shared WebAssembly memory as tensors), got {got}. Install a newer one, or run it through the npm package "node"',
  ],
  unknownPipeline: ['stop', 404, 'Expected a pipeline name ({expected}) or a module file, got "{got}"'],
} as const satisfies Record<string, readonly [Disposition, number, string]>;

/** What a caller should do: leave the event out, try again, or stop the pipeline. Not retryable unless said so. */
export type Disposition = 'retry' | 'skip' | 'stop';
type Table = typeof table;
export type ErrorKey = keyof Table;
/** The keys whose events are left out: the reasons that a {@link Rejection} can carry. */
export type RejectionReason = { [K in ErrorKey]: Table[K][0] extends 'skip' ? K : never }[ErrorKey];
type Placeholders<T extends string> = T extends `${string}{${infer P}}${infer Rest}` ? P | Placeholders<Rest> : never;
export type ErrorDetails<K extends ErrorKey> = { readonly [P in Placeholders<Table[K][2]>]: string | number };

/** Of one detail of an event that is left out. */
const MOST_CHARACTERS = 500;

const brand = Symbol.for('rxgrad.error');

/** Is thrown (or carried by a rejection) wherever rxgrad finds something other than what it expects. */
export class RxgradError<K extends ErrorKey = ErrorKey> extends Error {
  readonly key: K;
  readonly code: string;
  readonly disposition: Disposition;
  readonly status: number;
  readonly details: Readonly<Record<string, string | number>>;

  constructor(key: K, details: ErrorDetails<K>, options?: ErrorOptions) {
    const [disposition, status, template] = table[key];
    const values = disposition === 'skip' ? shown(details) : (details as Readonly<Record<string, string | number>>);
    super(
      template.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)),
      options,
    );
    this.key = key;
    this.code = codeOf(key);
    this.disposition = disposition;
    this.status = status;
    this.details = values;
    Object.defineProperty(this, 'name', { value: nameOf(key), enumerable: false });
    Object.defineProperty(this, brand, { value: true });
  }

  toJSON(): { code: string; message: string; details: Readonly<Record<string, string | number>> } {
    return { code: this.code, message: this.message, details: this.details };
  }
}

/** Tells whether anything at all is an error of rxgrad, also one of another copy of the package. */
export function isRxgradError(value: unknown): value is RxgradError {
  try {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[brand] === true;
  } catch {
    // A proxy may refuse to be looked at.
    return false;
  }
}

/** Whether a writer was refused because another one has taken over. */
export function isFenced(error: unknown): boolean {
  return isRxgradError(error) && error.key === 'fenced';
}

/** Fails with all in which two sides differ, if they do. */
export function assertNoDifferences(differences: readonly string[]): void {
  if (differences.length > 0) throw new RxgradError('parametersDiffer', { differences: differences.join('; ') });
}

/** Lists every error as the documentation shows it. */
export function errorCatalogue(): {
  key: ErrorKey;
  name: string;
  code: string;
  disposition: Disposition;
  status: number;
  message: string;
}[] {
  return (Object.keys(table) as ErrorKey[]).map((key) => {
    const [disposition, status, message] = table[key];
    return { key, name: nameOf(key), code: codeOf(key), disposition, status, message };
  });
}

/** What producers have sent may be long, or garble a terminal or a log. */
function shown(details: Readonly<Record<string, string | number>>): Record<string, string | number> {
  const texts = Object.entries(details).map(([name, value]) => {
    if (typeof value === 'number') return [name, value] as const;
    const text = value.slice(0, MOST_CHARACTERS).replace(/\p{C}/gu, '?');
    return [name, value.length > MOST_CHARACTERS ? `${text}…` : text] as const;
  });
  return Object.fromEntries(texts);
}

function codeOf(key: string): string {
  return `RXGRAD_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

function nameOf(key: string): string {
  return `${key.charAt(0).toUpperCase()}${key.slice(1)}Error`;
}
