import type { ElementKernel } from '../kernels/kernel.ts';
import { adaBeliefKernel } from './ada-belief.ts';
import { adadeltaKernel } from './adadelta.ts';
import { adafactorKernels } from './adafactor.ts';
import { adagradKernel } from './adagrad.ts';
import { adamKernel, amsgradKernel } from './adam.ts';
import { adamaxKernel } from './adamax.ts';
import { averagedKernel } from './average.ts';
import { adaptivelyCompensatedKernel, compensatedKernel } from './compensation.ts';
import { fromageKernel } from './fromage.ts';
import { ftrlKernel } from './ftrl.ts';
import { directedKernel, lambDirectionKernel } from './lamb.ts';
import { larsKernel } from './lars.ts';
import { lionKernel } from './lion.ts';
import { lookaheadKernel } from './lookahead.ts';
import { momentumKernel } from './momentum.ts';
import { momentumNesterovKernel } from './momentum-nesterov.ts';
import { nadamKernel } from './nadam.ts';
import { novogradKernel } from './novograd.ts';
import { copiedKernel, normsKernel, preparedKernel } from './prepared.ts';
import { radamKernel } from './radam.ts';
import { rmspropKernels } from './rmsprop.ts';
import { rpropKernel } from './rprop.ts';
import { sgdKernel } from './sgd.ts';
import { spreadKernel } from './spread.ts';
import { yogiKernel } from './yogi.ts';

/** Every kernel that the build makes a loop of. */
export const kernels: readonly ElementKernel[] = [
  preparedKernel,
  spreadKernel,
  copiedKernel,
  normsKernel,
  averagedKernel,
  compensatedKernel,
  adaptivelyCompensatedKernel,
  sgdKernel,
  momentumKernel,
  momentumNesterovKernel,
  adamKernel,
  amsgradKernel,
  adagradKernel,
  adadeltaKernel,
  ...rmspropKernels,
  adamaxKernel,
  nadamKernel,
  radamKernel,
  lambDirectionKernel,
  directedKernel,
  larsKernel,
  yogiKernel,
  adaBeliefKernel,
  lionKernel,
  rpropKernel,
  fromageKernel,
  novogradKernel,
  ...adafactorKernels,
  lookaheadKernel,
  ftrlKernel,
];
