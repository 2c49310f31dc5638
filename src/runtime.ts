import { RxgradError } from './errors.ts';

const MINIMUM = [22, 18] as const;

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < MINIMUM[0] || (major === MINIMUM[0] && minor < MINIMUM[1])) {
  throw new RxgradError('unsupportedRuntime', { expected: MINIMUM.join('.'), got: process.versions.node });
}
