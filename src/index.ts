import './runtime.ts';

export { isRxgradError, type RejectionReason, type RxgradError } from './errors.ts';
export {
  acknowledge,
  type EpochBoundary,
  epochBoundary,
  GradientBatch,
  type GradientFacts,
  type GradientInput,
  gradientBatch,
  type MetricReport,
  metricReport,
  type Position,
  type Rejection,
  type TrainingEvent,
} from './events.ts';
export { HotSwapSession, type HotSwapSessionOptions, type Prediction } from './inference/hot-swap-session.ts';
export type { Observation, StepFacts } from './observe/channels.ts';
export { type Figures, nextFigures, noFigures } from './observe/figures.ts';
export { observations } from './observe/observations.ts';
export { tapMetrics } from './observe/tap-metrics.ts';
export { adam } from './optimizers/adam.ts';
export { momentum } from './optimizers/momentum.ts';
export { momentumNesterov } from './optimizers/momentum-nesterov.ts';
export { type OptimizerConfig, optimizer } from './optimizers/optimizer.ts';
export type { ScanOptions } from './optimizers/scan.ts';
export { sgd } from './optimizers/sgd.ts';
export type { WeightsUpdate } from './optimizers/weights-update.ts';
export { type Parameter, type ParameterSpec, Parameters } from './params/parameters.ts';
export { type SharedWeights, type Weights, WeightsReader } from './params/weights-reader.ts';
export { type LearningRate, type ScheduleConfig, schedule } from './schedules/from-config.ts';
export type { Schedule, ScheduleState } from './schedules/schedule.ts';
export { stepLR } from './schedules/step-lr.ts';
export { hotSwap } from './sinks/hot-swap.ts';
export { encodeEvent } from './sources/codec.ts';
export { embeddedLog } from './sources/embedded-log.ts';
export { type FromTransportOptions, fromTransport } from './sources/from-transport.ts';
export { memoryTransport } from './sources/memory.ts';
export type { ConsumeOptions, Consumption, LogRecord, NewRecord, Transport } from './sources/transport.ts';
export { addDecayedWeights } from './stages/add-decayed-weights.ts';

export { clipByGlobalNorm } from './stages/clip-by-global-norm.ts';
export { clipByValue } from './stages/clip-by-value.ts';
