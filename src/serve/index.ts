export type { Servable, ServablePrediction, ServablePredictOptions, ServableTensor, ServableVersion } from './served-models.ts';
export type { RunningServer, ServeLimits, ServeOptions, ServeTimeouts, ServeTls } from './server.ts';
export { serve } from './server.ts';
