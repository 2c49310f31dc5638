export type { Servable, ServablePrediction, ServablePredictOptions, ServableTensor, ServableVersion } from './served-models.ts';
export type { RunningServer, ServeLimits, ServeOptions, ServeTimeouts } from './server.ts';
export { serve } from './server.ts';
export type { ServeTls } from './tls.ts';
