import { memoryTransport } from '../../src/sources/memory.ts';
import { describeTransport } from './transport-conformance.ts';

describeTransport(
  'memoryTransport',
  () => {
    const transport = memoryTransport();
    return { connect: () => transport };
  },
  {
    deviations: {
      'another instance': 'each has a log of its own',
      'group members share partitions': 'every consumer gets all partitions',
    },
  },
);
