export { addDecay, clip, scale } from './elementwise';
export { squaresOfBlocks, sumOfSquares } from './reduce';
// Emitted by the build from the rules' own definitions.
export * from './rules';
