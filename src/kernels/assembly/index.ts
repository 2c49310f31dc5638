export { adafactorFactored } from './adafactor';
export { decodeBF16, decodeF16, decodeI8, decodeI64 } from './decode';
export { addScaled, clip, scale } from './elementwise';
export { squares, sumOfSquares } from './reduce';
export { addUpRows, isRising } from './rows';
export { sm3 } from './sm3';
// Emitted by the build from the rules' own definitions.
export * from './rules';
