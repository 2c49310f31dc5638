import { create } from '@bufbuild/protobuf';
import { modelConfig } from '../metadata.ts';
import type { ServedModel, TensorSignature } from '../served-models.ts';
import {
  type ModelConfig,
  ModelConfigSchema,
  type ModelMetadataResponse_TensorMetadata,
  ModelMetadataResponse_TensorMetadataSchema,
  type ModelStatistics,
  ModelStatisticsSchema,
} from './inference_pb.ts';

/** Numbers of the types in a model's configuration. */
const configTypes = [
  'TYPE_INVALID',
  'TYPE_BOOL',
  'TYPE_UINT8',
  'TYPE_UINT16',
  'TYPE_UINT32',
  'TYPE_UINT64',
  'TYPE_INT8',
  'TYPE_INT16',
  'TYPE_INT32',
  'TYPE_INT64',
  'TYPE_FP16',
  'TYPE_FP32',
  'TYPE_FP64',
  'TYPE_STRING',
];

export function tensorMessage({ name, datatype, shape }: TensorSignature): ModelMetadataResponse_TensorMetadata {
  return create(ModelMetadataResponse_TensorMetadataSchema, { name, datatype, shape: shape.map(BigInt) });
}

export function configMessage(model: ServedModel): ModelConfig {
  const { name, platform, backend, max_batch_size: maxBatchSize, input, output } = modelConfig(model);
  const tensor = (of: (typeof input)[number]) => ({
    name: of.name,
    dataType: Math.max(0, configTypes.indexOf(of.data_type)),
    dims: of.dims.map(BigInt),
  });
  return create(ModelConfigSchema, {
    name,
    platform,
    backend,
    maxBatchSize,
    input: input.map(tensor),
    output: output.map(tensor),
  });
}

/** Predictions since the server began. */
export function statisticsMessage({ name, session, figures }: ServedModel): ModelStatistics {
  const { lastAtMs, answered, answeredMs, failed, failedMs } = figures;
  return create(ModelStatisticsSchema, {
    name,
    version: String(session.version),
    lastInference: BigInt(Math.round(lastAtMs)),
    inferenceCount: BigInt(answered),
    executionCount: BigInt(answered),
    inferenceStats: {
      success: { count: BigInt(answered), ns: nanoseconds(answeredMs) },
      fail: { count: BigInt(failed), ns: nanoseconds(failedMs) },
    },
  });
}

function nanoseconds(ms: number): bigint {
  return BigInt(Math.round(ms * 1e6));
}
