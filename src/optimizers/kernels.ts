import type { ElementKernel } from '../kernels/kernel.ts';
import { adamKernel, amsgradKernel } from './adam.ts';
import { momentumKernel } from './momentum.ts';
import { momentumNesterovKernel } from './momentum-nesterov.ts';
import { sgdKernel } from './sgd.ts';

/** Every kernel that the build makes a loop of. */
export const kernels: readonly ElementKernel[] = [sgdKernel, momentumKernel, momentumNesterovKernel, adamKernel, amsgradKernel];
