import { seal } from '../../src/checkpoints/checkpoint-file.ts';
import { readTensorFileHeader, tensorFileHeader } from '../../src/params/tensor-file.ts';

type Metadata = Readonly<Record<string, string>>;

export function metadataOf(file: Uint8Array): Metadata {
  return headerOf(file).metadata;
}

/** A checkpoint as a version of rxgrad wrote it that knew nothing of logs. */
export function withoutLogFacts(file: Uint8Array): Uint8Array {
  return changed(file, (metadata) => {
    const { log: _, ...state } = JSON.parse(metadata['rxgrad.state']!) as Record<string, unknown>;
    return { ...metadata, 'rxgrad.state': JSON.stringify(state) };
  });
}

/** A checkpoint with other metadata, whole. */
export function changed(file: Uint8Array, change: (metadata: Metadata) => Metadata): Uint8Array {
  const made = withMetadata(file, change);
  seal(made);
  return made;
}

/** A checkpoint with other metadata, a checksum of others among them. */
export function withMetadata(file: Uint8Array, change: (metadata: Metadata) => Metadata): Uint8Array {
  const { begin, metadata, entries } = headerOf(file);
  return Buffer.concat([tensorFileHeader(change(metadata), Object.entries(entries)), file.subarray(begin)]);
}

function headerOf(file: Uint8Array) {
  return readTensorFileHeader(file, (expected, got) => {
    throw new Error(`expected ${expected}, got ${got}`);
  });
}
