import './runtime.ts';

export { type Blamed, type BlameOptions, blame } from './checkpoints/blame.ts';
export type { AbandonedCourse, CheckpointEntry, CheckpointStore } from './checkpoints/checkpoint-store.ts';
export { FileCheckpoints, type FileCheckpointsOptions } from './checkpoints/file-checkpoints.ts';
export { KafkaCheckpoints, type KafkaCheckpointsOptions } from './checkpoints/kafka-checkpoints.ts';
export { placeOfState } from './checkpoints/place-of-state.ts';
export { type Recovered, type RecoverOptions, recover } from './checkpoints/recover.ts';
export { type Moment, type ReplayOptions, replay } from './checkpoints/replay.ts';
export { type PartitionTraining, type TrainPartitionsOptions, trainPartitions } from './checkpoints/train-partitions.ts';
export { isRxgradError, type RejectionReason, type RxgradError } from './errors.ts';
export {
  acknowledge,
  type EpochBoundary,
  epochBoundary,
  GradientBatch,
  type GradientFacts,
  gradientBatch,
  type MetricReport,
  metricReport,
  type Position,
  type Rejection,
  type TrainingEvent,
} from './events.ts';
export { gate } from './gates/gate.ts';
export type { GateDecision, GateOptions, LabelledExamples } from './gates/gate-options.ts';
export {
  HotSwapSession,
  type HotSwapSessionOptions,
  type Prediction,
  type PredictOptions,
  type SessionStatus,
  type StalenessOptions,
} from './inference/hot-swap-session.ts';
export type { KeepVersionsOptions, VersionEntry, VersionSource } from './inference/versions.ts';
export type { Observation, StepFacts } from './observe/channels.ts';
export { type Figures, nextFigures, noFigures } from './observe/figures.ts';
export { observations } from './observe/observations.ts';
export { tapMetrics } from './observe/tap-metrics.ts';
export { adaBelief } from './optimizers/ada-belief.ts';
export { adadelta } from './optimizers/adadelta.ts';
export { adafactor } from './optimizers/adafactor.ts';
export { adagrad } from './optimizers/adagrad.ts';
export { adam } from './optimizers/adam.ts';
export { adamW } from './optimizers/adam-w.ts';
export { adamax } from './optimizers/adamax.ts';
export type { AverageOptions } from './optimizers/average.ts';
export { fromage } from './optimizers/fromage.ts';
export { ftrl } from './optimizers/ftrl.ts';
export type { ParameterGroup } from './optimizers/groups.ts';
export { lamb } from './optimizers/lamb.ts';
export { lars } from './optimizers/lars.ts';
export { lion } from './optimizers/lion.ts';
export { type LookaheadOptions, lookahead } from './optimizers/lookahead.ts';
export { momentum } from './optimizers/momentum.ts';
export { momentumNesterov } from './optimizers/momentum-nesterov.ts';
export { nadam } from './optimizers/nadam.ts';
export { novograd } from './optimizers/novograd.ts';
export { type OptimizerConfig, optimizer } from './optimizers/optimizer.ts';
export type { OutlierOptions } from './optimizers/outliers.ts';
export { radam } from './optimizers/radam.ts';
export type { RejectionSink } from './optimizers/rejections.ts';
export { rmsprop } from './optimizers/rmsprop.ts';
export { rprop } from './optimizers/rprop.ts';
export type { RuleConfig } from './optimizers/rule-types.ts';
export type { ScanOptions } from './optimizers/scan-options.ts';
export { sgd } from './optimizers/sgd.ts';
export { sm3 } from './optimizers/sm3.ts';
export type { WeightsUpdate } from './optimizers/weights-update.ts';
export { yogi } from './optimizers/yogi.ts';
export type { GradientInput, SparseRows } from './pack.ts';
export type { KeptVersion } from './params/kept-versions.ts';
export type { ParameterSpec } from './params/layout.ts';
export type { WeightsFacts } from './params/origins.ts';
export { type Parameter, Parameters } from './params/parameters.ts';
export { type SharedWeights, type Weights, WeightsReader } from './params/weights-reader.ts';
export { chainedScheduler } from './schedules/chained-scheduler.ts';
export { constantLR } from './schedules/constant-lr.ts';
export { cosineAnnealingLR } from './schedules/cosine-annealing-lr.ts';
export { cosineAnnealingWarmRestarts } from './schedules/cosine-annealing-warm-restarts.ts';
export { cyclicLR } from './schedules/cyclic-lr.ts';
export { exponentialDecayLR } from './schedules/exponential-decay-lr.ts';
export { exponentialLR } from './schedules/exponential-lr.ts';
export { type LearningRate, type ScheduleConfig, schedule } from './schedules/from-config.ts';
export { linearLR } from './schedules/linear-lr.ts';
export { multiStepLR } from './schedules/multi-step-lr.ts';
export { oneCycleLR } from './schedules/one-cycle-lr.ts';
export { piecewiseConstantSchedule } from './schedules/piecewise-constant-schedule.ts';
export { polynomialLR } from './schedules/polynomial-lr.ts';
export { reduceLROnPlateau } from './schedules/reduce-lr-on-plateau.ts';
export type { Schedule, ScheduleState } from './schedules/schedule.ts';
export { sequentialLR } from './schedules/sequential-lr.ts';
export { stepLR } from './schedules/step-lr.ts';
export { warmupCosineSchedule } from './schedules/warmup-cosine-schedule.ts';
export { warmupScheduler } from './schedules/warmup-scheduler.ts';
export type { Setting } from './setting.ts';
export { readShardPlan, type ShardPart, type ShardPlan } from './shards/plan.ts';
export { shardGradients } from './shards/shard-gradients.ts';
export { shardPlan } from './shards/shard-plan.ts';
export { joinShards, shardParameters } from './shards/weights.ts';
export { type CheckpointOptions, checkpoint } from './sinks/checkpoint.ts';
export { type DeadLettersOptions, deadLetters } from './sinks/dead-letters.ts';
export { hotSwap } from './sinks/hot-swap.ts';
export { type PublishWeightsOptions, publishWeights } from './sinks/publish-weights.ts';
export { checkTopic, type TopicFinding, type TopicNeeds, type TopicRole } from './sources/check-topic.ts';
export { encodeEvent } from './sources/codec.ts';
export { embeddedLog } from './sources/embedded-log.ts';
export { type FromTransportOptions, fromTransport } from './sources/from-transport.ts';
export { memoryTransport } from './sources/memory.ts';
export type {
  ConsumeOptions,
  Consumption,
  LogRecord,
  NewRecord,
  TopicOptions,
  TopicRecord,
  TopicSettings,
  TransactionalWriter,
  Transport,
} from './sources/transport.ts';
export { type AccumulateOptions, accumulate } from './stages/accumulate.ts';
export { addDecayedWeights } from './stages/add-decayed-weights.ts';
export { clipByGlobalNorm } from './stages/clip-by-global-norm.ts';
export { clipByValue } from './stages/clip-by-value.ts';
export { staleness } from './stages/staleness.ts';
export type { StalenessPolicy } from './staleness.ts';
export { type WeightsFromOptions, weightsFrom } from './weights/weights-from.ts';
