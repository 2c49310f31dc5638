import { create } from '@bufbuild/protobuf';
import { modelConfig, modelStatistics } from '../metadata.ts';
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

export function statisticsMessage(model: ServedModel): ModelStatistics {
  const { inference_stats: stats, ...facts } = modelStatistics(model);
  const duration = ({ count, ns }: typeof stats.success) => ({ count: BigInt(count), ns: BigInt(ns) });
  return create(ModelStatisticsSchema, {
    name: facts.name,
    version: facts.version,
    lastInference: BigInt(facts.last_inference),
    inferenceCount: BigInt(facts.inference_count),
    executionCount: BigInt(facts.execution_count),
    inferenceStats: { success: duration(stats.success), fail: duration(stats.fail) },
  });
}
