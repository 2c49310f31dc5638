import { HotSwapSession } from '../../src/index.ts';
import { serve } from '../../src/serve/server.ts';

const session = await HotSwapSession.load(process.argv[2]!, undefined, { maxBatch: 64 });
await session.warmUp();
const { url } = await serve({ models: { m: session }, port: 0, log: 'silent' });
console.log(url);
