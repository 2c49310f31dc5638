import { randomUUID } from 'node:crypto';
import { setImmediate as eventLoopTurn } from 'node:timers/promises';
import * as v from 'valibot';
import { RxgradError } from '../errors.ts';
import { Arena } from '../kernels/arena.ts';
import { parseOptions } from '../options.ts';
import { Changes } from './changes.ts';
import { Differences } from './differences.ts';
import { Finiteness } from './finiteness.ts';
import { type KeptVersion, KeptVersions } from './kept-versions.ts';
import { layOut, type ParameterPlace, type ParameterSpec, specsSchema } from './layout.ts';
import { LeftRight } from './left-right.ts';
import { type LoadOptions, loadWeights } from './load-weights.ts';
import { noteFinite } from './note-finite.ts';
import { Origins, type WeightsFacts } from './origins.ts';
import { type Parameter, parameterOf } from './parameter.ts';
import { ScanSeat } from './scan-seat.ts';
import { SlotViews, type Weights } from './slot-views.ts';
import { planStateDict, readStateDict, shapeOfStateDict } from './state-dict.ts';
import { type TensorFilePlan, writeTensorFile } from './tensor-file.ts';
import { type SharedWeights, WeightsReader } from './weights-reader.ts';

export type { Parameter } from './parameter.ts';

const loadSchema = v.strictObject({ strict: v.optional(v.boolean(), true), exact: v.optional(v.boolean(), false) });
const optionsSchema = v.strictObject({
  version: v.optional(v.pipe(v.number(), v.safeInteger('a whole number'), v.minValue(0)), 0),
  shardOf: v.optional(v.nullable(v.array(v.string())), null),
});

/**
 * A model's trainable parameters: names, shapes and weights, and the state that a scan keeps beside them, all in one shared
 * WebAssembly memory. onnxruntime reads the weights in place; so a swap copies nothing.
 *
 * @example
 * const params = Parameters.create({ w: { dims: [2, 3], data: [1, 2, 3, 4, 5, 6] } });
 * params.get('w').data; // Float32Array [1, 2, 3, 4, 5, 6]
 */
export class Parameters implements Iterable<Parameter> {
  readonly names: readonly string[];
  /** Where each parameter lies in a weight buffer, and in every buffer of state. */
  readonly places: readonly ParameterPlace[];
  /** Bytes of one weight buffer; state buffers have as many. */
  readonly byteLength: number;
  readonly arena: Arena;
  readonly leftRight: LeftRight;
  /** What the buffer that holds the newest weights has beside the other one that is written in turn. The writer keeps it. */
  readonly differences: Differences;
  /** Who is told what is written, beside {@link differences}. */
  readonly followers = new Set<Changes>();
  /** The names of all parameters of the model that these are a shard of, or null where they are all of it. */
  readonly shardOf: readonly string[] | null;
  /** Who steps these parameters. */
  readonly seat = new ScanSeat();
  /** Where weights came from. */
  readonly origins = new Origins();
  /** Which of the newest weights are finite. */
  readonly finiteness: Finiteness;
  /** Versions that stay in memory. */
  readonly kept: KeptVersions;
  readonly #byName: ReadonlyMap<string, Parameter>;
  readonly #views: SlotViews;
  /**
   * Names the course of training that these weights belong to, beside their version: a random id, which checkpoints keep, so that a
   * training that is recovered goes on under it. Who publishes weights tells it, who follows them takes it over.
   */
  course: string = randomUUID();

  /**
   * Copies the given values into a new arena. `version` is the number of these weights (default 0); `shardOf` names all parameters
   * of the model, where these are a shard of it.
   */
  static create(
    specs: Readonly<Record<string, ParameterSpec>>,
    options: { readonly version?: number; readonly shardOf?: readonly string[] | null } = {},
  ): Parameters {
    parseOptions(specsSchema, specs, 'Parameters.create');
    const { version, shardOf } = parseOptions(optionsSchema, options, 'Parameters.create options');
    return new Parameters(specs, version, new Arena(), shardOf);
  }

  /** The parameters that a file of {@link stateDict} holds, of their own: the next scan over them goes on from its state. */
  static fromStateDict(source: Uint8Array | string, options: { readonly exact?: boolean } = {}): Parameters {
    const { specs, shardOf } = shapeOfStateDict(source);
    const params = Parameters.create(specs, shardOf ? { shardOf } : {});
    params.loadStateDict(source, options);
    return params;
  }

  private constructor(
    specs: Readonly<Record<string, ParameterSpec>>,
    version: number,
    arena: Arena,
    shardOf: readonly string[] | null,
  ) {
    const { places, byteLength } = layOut(specs);
    this.names = places.map(({ name }) => name);
    this.places = places;
    this.byteLength = byteLength;
    this.arena = arena;
    this.shardOf = shardOf;
    this.leftRight = new LeftRight(arena, byteLength);
    const { latest, table } = this.leftRight;
    this.#views = new SlotViews(arena.memory, places, table);
    for (const { name } of places) {
      const { data } = specs[name]!;
      if (data) this.latest[name]!.set(data);
    }
    this.differences = new Differences(this.arena, places);
    this.finiteness = new Finiteness(places.length);
    this.kept = new KeptVersions(this);
    const origin = this.origins.of(null);
    for (const slot of [0, 1]) table.describe(slot, version, origin);
    const address = table.address(latest);
    for (const [index, { name }] of places.entries()) if (specs[name]!.data) noteFinite(this, index, 'all', address);
    this.#byName = new Map(places.map((place) => [place.name, parameterOf(this, place)]));
  }

  /** The number of the newest weights: one more with every step. */
  get version(): number {
    return this.leftRight.version(this.leftRight.latest);
  }

  /** The number of the weights that readers see. */
  get liveVersion(): number {
    return this.leftRight.version(this.leftRight.live);
  }

  /** What is known of the weights that readers see. */
  get live(): WeightsFacts {
    return this.origins.factsOf(this.leftRight.facts(this.leftRight.live));
  }

  /** What is known of the newest weights. */
  get newest(): WeightsFacts {
    return this.origins.factsOf(this.leftRight.facts(this.leftRight.latest));
  }

  /** Whether the newest weights are free of NaN and Infinity. Those that are not never go live. */
  get finite(): boolean {
    return this.finiteness.all;
  }

  /** Whether what is live stays, whatever is swapped: see {@link pin}. */
  get pinned(): boolean {
    return this.leftRight.pinned;
  }

  /** Whether the newest weights are those that the next event's step starts from: no event waits for its step. */
  get settled(): boolean {
    return this.seat.settled;
  }

  /**
   * Resolves when every event that the scan has left out until now is kept by its `rejections`: in the dead-letter topic, where
   * that is `deadLetters`. A state may be written behind it, since nobody reads those events again.
   */
  async whenRejectionsKept(): Promise<void> {
    await this.seat.rejectionsKept();
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  get(name: string): Parameter {
    const parameter = this.#byName.get(name);
    if (parameter) return parameter;
    throw new RxgradError('unknownParameter', { where: 'Parameters.get', expected: this.names.join(', '), parameter: name });
  }

  [Symbol.iterator](): IterableIterator<Parameter> {
    return this.#byName.values();
  }

  /** The newest weights by name: views, lent until the next step. */
  get latest(): Weights {
    return this.#views.of(this.leftRight.latest);
  }

  /**
   * Replaces weights (all or some of them, lengths as they are) by one new version, which goes live at once. Optimizer
   * state stays as it is. Never waits for readers: where they hold what would be written, it takes another buffer. Throws
   * `stepUnderWay` in the middle of a step, and `buffersInUse` where there is no other buffer: see {@link whenFree}.
   */
  load(values: Readonly<Record<string, ArrayLike<number>>>, options: LoadOptions = {}): void {
    loadWeights(this, values, options);
    this.swap();
  }

  /** Resolves when weights can be loaded with no further buffer: no step is under way, and nobody reads what would be written. */
  async whenFree(): Promise<void> {
    const { seat, leftRight } = this;
    const isBusy = (): boolean => seat.busy && leftRight.written !== null;
    while (seat.held || isBusy() || !leftRight.isFree(leftRight.target)) {
      await seat.held;
      await leftRight.readers.untilFree(() => leftRight.target);
      while (isBusy()) await eventLoopTurn();
    }
  }

  /** Begins to follow what is written. To be closed by whoever asks. */
  changes(): Changes {
    const changes = new Changes(this.arena, this.places, (left) => this.followers.delete(left));
    this.followers.add(changes);
    return changes;
  }

  /** Others of the same names, shapes and weights, in the same memory: to be trained, while these serve their average. */
  twin(): Parameters {
    const specs = [...this].map(({ name, dims, data }) => [name, { dims, data }]);
    return new Parameters(Object.fromEntries(specs), this.version, this.arena, this.shardOf);
  }

  /** Makes the newest weights visible to readers, unless they are not finite, or others are pinned. Tells whether they are. */
  swap(): boolean {
    const { leftRight } = this;
    if (this.finite) leftRight.show(leftRight.latest);
    return leftRight.live === leftRight.latest;
  }

  /** Makes a kept version visible to readers, unless others are pinned. Tells whether it is. Throws where it was let go meanwhile. */
  show({ version }: KeptVersion): boolean {
    const { slot } = this.kept.find(version);
    this.leftRight.show(slot);
    return this.leftRight.live === slot;
  }

  /** Makes a kept version, or what is live, the one that readers see until {@link unpin}. Throws where it was let go meanwhile. */
  pin(kept?: KeptVersion): void {
    this.leftRight.pin(kept && this.kept.find(kept.version).slot);
  }

  /** Makes visible what would have been, if nothing had been pinned. */
  unpin(): void {
    const { leftRight } = this;
    if (leftRight.wished === leftRight.latest && !this.finite) {
      throw new RxgradError('weightsNotFinite', { version: this.version });
    }
    leftRight.unpin();
  }

  /**
   * Hands out what one reader on another thread needs, and announces that reader. It lives until it is closed or its thread ends,
   * however long it reads. Of threads that this one starts that is known; for others, see {@link letGo}.
   */
  share(): SharedWeights {
    const { live, written, control, readers } = this.leftRight;
    if (written === live) {
      const advice = 'ask where an update arrives, or await params.whenFree() first';
      throw new RxgradError('stepUnderWay', { what: 'a reader to be announced', advice });
    }
    return { memory: this.arena.memory, control, places: this.places, reader: readers.announce() };
  }

  /** Takes leave for a reader whose thread has ended, and lets go of what it was reading. `shared` is what was handed out for it. */
  letGo(shared: SharedWeights): void {
    this.leftRight.readers.letGo(shared.reader);
  }

  /** A reader on this thread. */
  reader(): WeightsReader {
    return WeightsReader.attach(this.share());
  }

  /**
   * Writes the newest weights, and the state of the scan that steps them or did last, as a safetensors file: weights under
   * their own names, state as `state.<parameter>.<key>` with torch's keys, and what else a scan needs in the metadata. Who
   * loads it goes on with the same bits. To be called between two steps, as where an update arrives.
   */
  stateDict(): Uint8Array {
    return writeTensorFile(this.planStateDict());
  }

  /** The same file, still to be put together: its parts are views, lent until the next step. See {@link ScanSeat.hold}. */
  planStateDict(metadata: Readonly<Record<string, string>> = {}): TensorFilePlan {
    return planStateDict(this.places, this.latest, this.version, this.seat.state(), {
      ...metadata,
      ...(this.shardOf ? { 'rxgrad.shardOf': JSON.stringify(this.shardOf) } : {}),
    });
  }

  /**
   * Loads a safetensors file (its bytes, or a path): weights go live at once as one version, and the next scan goes on from
   * the state. A checkpoint of torch or braintools works too, in F64, F32, F16 or BF16, with state where its name holds a
   * parameter's: `momentum_buffer` or `velocity`, `exp_avg` or `mu`, `exp_avg_sq` or `nu`, `step`. What does not fit is an
   * error that names all of it; with `strict: false` what fits is loaded. With `exact`, a scan with other options or stages
   * than the one that wrote it fails before its first step.
   */
  loadStateDict(source: Uint8Array | string, options: { readonly strict?: boolean; readonly exact?: boolean } = {}): void {
    const parsed = parseOptions(loadSchema, options, 'Parameters.loadStateDict options');
    this.seat.assertFree();
    const { weights, version, course, state } = readStateDict(this.places, source, parsed);
    this.load(weights, { version: version ?? this.version + 1 });
    if (course !== null) this.course = course;
    this.seat.load(state);
  }
}
