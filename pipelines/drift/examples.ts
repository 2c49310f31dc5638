import type { NewRecord } from '../../src/index.ts';

/** CloudEvents type of a labelled event. */
const type = 'rxgrad.drift.example.v1';

/** What a model learns from: features scaled to [−1, 1], and the label. */
export interface Example {
  readonly x: readonly number[];
  readonly y: 0 | 1;
}

export function encodeExamples(examples: readonly Example[]): NewRecord[] {
  return examples.map((example) => ({
    value: Buffer.from(JSON.stringify(example)),
    headers: { ce_specversion: '1.0', ce_type: type, ce_source: 'drift' },
  }));
}

export function decodeExample(value: Uint8Array): Example {
  return JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString()) as Example;
}
