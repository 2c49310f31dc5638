import type { RejectionReason } from '../errors.ts';
import type { GateObserved, Observation } from './channels.ts';

/** The figures of a stream up to now. Values that nothing has reported yet are null. */
export interface Figures {
  /** Gradient batches that came by (before a scan) or were applied (behind one). */
  readonly batches: number;
  readonly epochs: number;
  readonly rejections: Readonly<Partial<Record<RejectionReason, number>>>;
  /** Batches that were applied although their norm was far above those before them, where a scan warns of such. */
  readonly outliers: number;
  /** Global norm of the last batch, before clipping. */
  readonly gradientNorm: number | null;
  /** Share of the applied batches whose global norm was clipped, 0 to 1. */
  readonly clippedShare: number | null;
  /** Learning rate of the last step. */
  readonly lr: number | null;
  /** What the last step took. */
  readonly stepMs: number | null;
  /** Versions between the last batch's weights and those that it was applied to. */
  readonly staleness: number | null;
  readonly version: number | null;
  /** What the last swap took. */
  readonly swapMs: number | null;
  readonly checkpoints: number;
  /** What the last checkpoint took until it was durable. */
  readonly checkpointMs: number | null;
  readonly predictions: number;
  /** What the last prediction took to compute. */
  readonly predictionMs: number | null;
  /** What gates decided. */
  readonly decisions: Readonly<Partial<Record<GateObserved['decision'], number>>>;
  /** Offsets that sources have yet to read, over all partitions. */
  readonly lag: number | null;
  /** The same of each partition, by `topic/partition`. */
  readonly lags: Readonly<Record<string, number>>;
}

/** Nothing seen yet. */
export const noFigures: Figures = {
  batches: 0,
  epochs: 0,
  rejections: {},
  outliers: 0,
  gradientNorm: null,
  clippedShare: null,
  lr: null,
  stepMs: null,
  staleness: null,
  version: null,
  swapMs: null,
  checkpoints: 0,
  checkpointMs: null,
  predictions: 0,
  predictionMs: null,
  decisions: {},
  lag: null,
  lags: {},
};

/** Adds an observation to the figures. */
export function nextFigures(figures: Figures, observation: Observation): Figures {
  switch (observation.kind) {
    // A batch goes through several stages, and counts once: at a tap or a scan.
    case 'stage':
    case 'strategy':
      return figures;
    case 'batch':
      return { ...figures, batches: figures.batches + 1, gradientNorm: observation.gradientNorm ?? figures.gradientNorm };
    case 'step': {
      const clipped = (figures.clippedShare ?? 0) * figures.batches + (observation.clipped ? 1 : 0);
      const batches = figures.batches + 1;
      return {
        ...figures,
        batches,
        gradientNorm: observation.gradientNorm,
        clippedShare: clipped / batches,
        lr: observation.lr,
        stepMs: observation.durationMs,
        staleness: observation.staleness ?? figures.staleness,
        version: observation.version,
      };
    }
    case 'outlier':
      return { ...figures, outliers: figures.outliers + 1 };
    case 'rejection': {
      const { reason } = observation.rejection;
      return { ...figures, rejections: { ...figures.rejections, [reason]: (figures.rejections[reason] ?? 0) + 1 } };
    }
    case 'epoch':
      return { ...figures, epochs: figures.epochs + 1, lr: observation.lr ?? figures.lr };
    case 'swap':
      return { ...figures, version: observation.version, swapMs: observation.durationMs };
    case 'recovery':
      return { ...figures, version: observation.version };
    case 'checkpoint':
      return { ...figures, checkpoints: figures.checkpoints + 1, checkpointMs: observation.durationMs };
    case 'prediction':
      return {
        ...figures,
        predictions: figures.predictions + 1,
        version: observation.version,
        predictionMs: observation.durationMs,
      };
    case 'gate': {
      const { decision } = observation;
      return { ...figures, decisions: { ...figures.decisions, [decision]: (figures.decisions[decision] ?? 0) + 1 } };
    }
    case 'progress': {
      const lags = { ...figures.lags, [`${observation.topic}/${observation.partition}`]: observation.lag };
      return { ...figures, lags, lag: Object.values(lags).reduce((sum, lag) => sum + lag, 0) };
    }
  }
}
