import { readFacts } from '../src/checkpoints/checkpoint-file.ts';
import { lastSeen } from '../src/once.ts';
import { readTensorFileHeader } from '../src/params/tensor-file.ts';
import type { RecordedLog } from './recorded-log.ts';

/** How a state differs from that of an uninterrupted run: in words, none where each byte is the same. */
export function differences(got: Uint8Array, whole: Uint8Array): string[] {
  if (Buffer.compare(got, whole) === 0) return [];
  const [a, b] = [partsOf(got), partsOf(whole)];
  const metadata = Object.keys({ ...a.metadata, ...b.metadata }).filter((key) => a.metadata[key] !== b.metadata[key]);
  const words = metadata.map((key) => `${key} is ${a.metadata[key]}, not ${b.metadata[key]}`);
  return [...words, ...(haveSameTensors(got, whole) ? [] : ['the tensors have other bits'])];
}

/** Whether two states have the same weights and optimizer state, wherever in whichever log they stand. */
export function haveSameTensors(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(partsOf(a).tensors, partsOf(b).tensors) === 0;
}

/** What a state says that it came of, where that is not what the log holds. */
export function misfits(state: Uint8Array, { batches, sequences }: RecordedLog): string[] {
  const { version, seen } = readFacts(state, 'the state');
  const last = new Map(seen && lastSeen(seen).map(({ worker, highest }) => [worker, highest]));
  return [
    ...(version === batches ? [] : [`version ${version}, not ${batches}`]),
    ...[...sequences].flatMap(([worker, sequence]) =>
      last.get(worker) === sequence ? [] : [`the last sequence of ${worker} is ${last.get(worker)}, not ${sequence}`],
    ),
  ];
}

function partsOf(file: Uint8Array) {
  const { begin, metadata } = readTensorFileHeader(file, (expected, got) => {
    throw new Error(`a state of ${expected}, got ${got}`);
  });
  return { metadata: metadata as Readonly<Record<string, string | undefined>>, tensors: file.subarray(begin) };
}
