export { sumOfSquares } from './reduce';
export { addDecay, clip, scale } from './elementwise';
export { momentum, momentumNesterov, sgd } from './momentum';
export { adam, amsgrad } from './adam';
