import { sgd } from 'rxgrad';
import { of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { movedTo, openCheckpoint, type PlaceInTopic, readFacts, seal } from '../../src/checkpoints/checkpoint-file.ts';
import { gradientBatch } from '../../src/events.ts';
import { writeTensorFile } from '../../src/params/tensor-file.ts';
import { changed, metadataOf, withMetadata } from './changed-checkpoints.ts';
import { checkpointOf, model } from './courses.ts';

type State = Record<string, unknown>;

const stateOf = (file: Uint8Array): State => JSON.parse(metadataOf(file)['rxgrad.state'] ?? '{}') as State;

/** A checkpoint whose state says something else in places. */
function withState(file: Uint8Array, state: State): Uint8Array {
  return changed(file, (metadata) => ({ ...metadata, 'rxgrad.state': JSON.stringify({ ...stateOf(file), ...state }) }));
}

/** A checkpoint of a model after its first step. */
function trained(): Uint8Array {
  const params = model();
  of(gradientBatch({ gradients: { w: new Float32Array(4).fill(1) } }))
    .pipe(sgd(params, { lr: 0.1 }))
    .subscribe();
  return checkpointOf(params);
}

/** Writes digits over those of the checksum. */
function withDigits(file: Uint8Array, digits: string): Uint8Array {
  const copy = Buffer.from(file);
  copy.write(digits, copy.indexOf('rxgrad.checksum') + 'rxgrad.checksum":"'.length);
  return copy;
}

describe('a checkpoint that is opened', () => {
  it('says what it contains', () => {
    const file = withState(trained(), { positions: [['g', 2, 7]], steps: 1, epochs: 3 });
    const facts = openCheckpoint(file, 'here');
    expect(facts).toMatchObject({ version: 1, steps: 1, epochs: 3, positions: [['g', 2, 7]], recipe: { optimizer: 'sgd' } });
    expect(facts.checksum).toBe(metadataOf(file)['rxgrad.checksum']);
    expect(facts.checksum).toMatch(/^[0-9a-f]{64}$/);
  });

  it('says of a model that no step was taken of that nothing was read', () => {
    const bare = writeTensorFile(model().planStateDict({ 'rxgrad.state': '{}' }));
    const { seen, log, recipe, ...facts } = readFacts(bare, 'here');
    expect(facts).toEqual({ version: 0, steps: 0, epochs: 0, positions: [], stages: null, checksum: '' });
    expect([seen, log, recipe]).toEqual([undefined, undefined, undefined]);
    const stateless = changed(checkpointOf(model()), ({ 'rxgrad.state': _, ...metadata }) => metadata);
    expect(openCheckpoint(stateless, 'here')).toMatchObject({ version: 0, steps: 0, positions: [] });
  });

  const sealed = checkpointOf(model());
  const digits = metadataOf(sealed)['rxgrad.checksum']!;
  const withChecksum = (text: string | null, format = '1') =>
    withMetadata(sealed, ({ 'rxgrad.checksum': _, ...metadata }) => ({
      ...metadata,
      'rxgrad.format': format,
      ...(text === null ? {} : { 'rxgrad.checksum': text }),
    }));

  it.each<[string, Uint8Array, string]>([
    ['has no checksum', withChecksum(null), 'here: expected a rxgrad.checksum of 64 digits, got none'],
    ['has a short one', withChecksum(digits.slice(1)), `of 64 digits, got ${digits.slice(1)}`],
    ['has one behind other text', withChecksum(`x${digits}`), 'of 64 digits, got x'],
    ['has one before other text', withChecksum(`${digits}x`), 'of 64 digits, got '],
    ['has one of other letters', withChecksum('g'.repeat(64)), 'of 64 digits, got ggg'],
    ['has that of another', withDigits(sealed, '0'.repeat(64)), `the checksum ${'0'.repeat(64)}, got ${digits}: it was changed`],
    [
      'has no version',
      changed(sealed, (metadata) => ({ ...metadata, 'rxgrad.version': 'x' })),
      'here: expected a version, got x',
    ],
    ['has half a version', changed(sealed, (metadata) => ({ ...metadata, 'rxgrad.version': '1.5' })), 'a version, got 1.5'],
    [
      'has a state that is no JSON',
      changed(sealed, (metadata) => ({ ...metadata, 'rxgrad.state': '{' })),
      'JSON as rxgrad.state',
    ],
    ['has a format that never was', changed(sealed, (metadata) => ({ ...metadata, 'rxgrad.format': '0' })), 'got format 0'],
    ['is no file of tensors', Buffer.from('not one'), 'here: expected'],
  ])('is refused where it %s', (_, file, words) => {
    const opening = () => openCheckpoint(file, 'here');
    expect(opening).toThrow(words);
    expect(opening).toThrow(expect.objectContaining({ key: 'invalidCheckpoint' }));
  });

  it.each<[string, Uint8Array]>([
    ['with a checksum', changed(sealed, (metadata) => ({ ...metadata, 'rxgrad.format': '9' }))],
    ['without one', withChecksum(null, '9')],
    ['with another kind of one', withChecksum('crc32:0a', '9')],
  ])('of a later format is not called broken: %s', (_, file) => {
    expect(() => openCheckpoint(file, 'here')).toThrow(expect.objectContaining({ key: 'newerFormat' }));
    expect(() => readFacts(file, 'here')).toThrow(expect.objectContaining({ key: 'newerFormat' }));
  });

  it('is refused wherever one bit of it is another', () => {
    for (let at = 0; at < sealed.byteLength; at++) {
      const flipped = Uint8Array.from(sealed);
      flipped[at]! ^= 1;
      expect(() => openCheckpoint(flipped, 'here'), `byte ${at}`).toThrow();
    }
  });

  it('is sealed in the middle of a buffer as elsewhere', () => {
    const around = Buffer.concat([Buffer.alloc(3), withDigits(sealed, '0'.repeat(64)), Buffer.alloc(5)]);
    const file = new Uint8Array(around.buffer, around.byteOffset + 3, sealed.byteLength);
    seal(file);
    expect(Buffer.compare(file, sealed)).toBe(0);
  });
});

describe('a state that is moved to another place', () => {
  const file = withState(trained(), {
    positions: [
      ['g', 0, 50],
      ['g', 1, 60],
      ['other', 0, 7],
    ],
    log: {
      newestMs: 1234,
      topics: [
        ['g', 'first'],
        ['other', 'second'],
      ],
      last: [
        ['g', 0, 49, 1000, 1],
        ['g', 1, 59, 1001, 2],
        ['other', 0, 6, 1002, 3],
      ],
    },
  });
  const mark = { offset: 19, timestampMs: 5, crc: 9 };
  const place = (topicId: string | null, own: Partial<PlaceInTopic> = {}): PlaceInTopic => ({
    topic: 'g',
    topicId,
    next: new Map([[0, 20]]),
    last: new Map([[0, mark]]),
    ...own,
  });
  const moved = (to: PlaceInTopic, from = file) => openCheckpoint(movedTo(from, to, 'here'), 'here');

  it('goes on there in the partitions that are named, and in the others where it was', () => {
    for (const topicId of ['first', null]) {
      const { positions, log } = moved(place(topicId));
      expect(positions).toEqual([
        ['g', 1, 60],
        ['other', 0, 7],
        ['g', 0, 20],
      ]);
      expect(log).toEqual({
        newestMs: 1234,
        topics: [['other', 'second'], ...(topicId === null ? [] : [['g', topicId]])],
        last: [
          ['g', 1, 59, 1001, 2],
          ['other', 0, 6, 1002, 3],
          ['g', 0, 19, 5, 9],
        ],
      });
    }
  });

  it('knows no partition of a topic that has another id', () => {
    const { positions, log } = moved(place('third', { last: new Map() }));
    expect(positions).toEqual([
      ['other', 0, 7],
      ['g', 0, 20],
    ]);
    expect(log).toEqual({
      newestMs: 1234,
      topics: [
        ['other', 'second'],
        ['g', 'third'],
      ],
      last: [['other', 0, 6, 1002, 3]],
    });
  });

  it('keeps partitions of a topic whose id it does not know', () => {
    const unknown = withState(file, { log: { newestMs: null, topics: [], last: [] } });
    const { positions, log } = moved(place('third'), unknown);
    expect(positions).toContainEqual(['g', 1, 60]);
    expect(log).toEqual({ newestMs: null, topics: [['g', 'third']], last: [['g', 0, 19, 5, 9]] });
  });

  it('says how young its records are where that is known: before the first step there are none', () => {
    expect(moved(place('a'), checkpointOf(model())).log).toMatchObject({ newestMs: null });
    const { log: _, ...state } = stateOf(trained());
    const silent = changed(trained(), (metadata) => ({ ...metadata, 'rxgrad.state': JSON.stringify(state) }));
    expect(moved(place('a'), silent).log).toEqual({ topics: [['g', 'a']], last: [['g', 0, 19, 5, 9]] });
  });

  it('is the same in all else', () => {
    const to = movedTo(file, place('first'), 'here');
    const { positions: _, log: __, ...kept } = stateOf(file);
    expect(stateOf(to)).toMatchObject(kept);
    const params = [file, to].map((source) => {
      const into = model();
      into.loadStateDict(source);
      return [into.version, ...into.get('w').data];
    });
    expect(params[1]).toEqual(params[0]);
  });
});
