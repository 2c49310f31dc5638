export { adam, amsgrad } from './adam';
export { addDecay, clip, scale } from './elementwise';
export { momentum, momentumNesterov, sgd } from './momentum';
export { sumOfSquares } from './reduce';
