import * as rxgrad from 'rxgrad';
import { expect, it } from 'vitest';

it('exports these names and no others', () => {
  expect(Object.keys(rxgrad).toSorted()).toEqual([
    'GradientBatch',
    'HotSwapSession',
    'Parameters',
    'WeightsReader',
    'acknowledge',
    'adam',
    'addDecayedWeights',
    'clipByGlobalNorm',
    'clipByValue',
    'embeddedLog',
    'encodeEvent',
    'epochBoundary',
    'fromTransport',
    'gradientBatch',
    'hotSwap',
    'isRxgradError',
    'memoryTransport',
    'metricReport',
    'momentum',
    'momentumNesterov',
    'nextFigures',
    'noFigures',
    'observations',
    'optimizer',
    'schedule',
    'sgd',
    'stepLR',
    'tapMetrics',
  ]);
});
