import type { CheckpointStore } from '../checkpoints/checkpoint-store.ts';
import { FileCheckpoints } from '../checkpoints/file-checkpoints.ts';
import { KafkaCheckpoints } from '../checkpoints/kafka-checkpoints.ts';
import { RxgradError } from '../errors.ts';
import type { Transport } from '../sources/transport.ts';
import type { PipelineOption, PipelineOptions } from './pipeline.ts';

/** The options that say where checkpoints are. */
export const storeOptions: readonly PipelineOption[] = [
  { flags: '--checkpoints <folder>', summary: 'folder of the checkpoints' },
  { flags: '--checkpoint-topic <name>', summary: 'compacted topic of the checkpoints, in the place of a folder' },
  { flags: '--checkpoint-model <name>', summary: 'whose they are in that topic (default: model)' },
  {
    flags: '--checkpoint-writer <id>',
    summary: 'transactional id of who writes to that topic: the newest one fences those before (default: none)',
  },
  { flags: '--keep <count>', summary: 'checkpoints that are kept, beside those that are pinned (default: 5)', number: 'whole' },
];

/** Opens the store that was named; null where none was. */
export function storeOf(options: PipelineOptions, transport: Transport): CheckpointStore | null {
  const { checkpoints, checkpointTopic, checkpointModel, checkpointWriter, keep } = options as StoreOptions;
  const kept = keep === undefined ? {} : { keep };
  if (checkpoints !== undefined && checkpointTopic !== undefined) {
    throw new RxgradError('invalidOption', { option: '--checkpoints', expected: 'no --checkpoint-topic with it', got: 'both' });
  }
  if (checkpointTopic !== undefined) {
    const model = checkpointModel === undefined ? {} : { model: checkpointModel };
    const writer = checkpointWriter === undefined ? {} : { transactionalId: checkpointWriter };
    return new KafkaCheckpoints(transport, { topic: checkpointTopic, ...model, ...writer, ...kept });
  }
  if (checkpointWriter !== undefined) {
    throw new RxgradError('invalidOption', {
      option: '--checkpoint-writer',
      expected: '--checkpoint-topic with it (a folder needs none)',
      got: 'none',
    });
  }
  return checkpoints === undefined ? null : new FileCheckpoints(checkpoints, kept);
}

/** As {@link storeOf}, where there must be one. */
export function requiredStoreOf(options: PipelineOptions, transport: Transport): CheckpointStore {
  const store = storeOf(options, transport);
  if (store) return store;
  throw new RxgradError('invalidOption', { option: '--checkpoints', expected: 'it, or --checkpoint-topic', got: 'neither' });
}

interface StoreOptions {
  readonly checkpoints?: string;
  readonly checkpointTopic?: string;
  readonly checkpointModel?: string;
  readonly checkpointWriter?: string;
  readonly keep?: number;
}
