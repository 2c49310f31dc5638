// A process of its own: appends numbers to an embedded log, and prints each once the append has resolved.
import { embeddedLog } from '../../src/sources/embedded-log.ts';

const [path, topic] = process.argv.slice(2);
const log = embeddedLog(path!);
for (let i = 0; ; i++) {
  await log.produce(topic!, [{ value: Buffer.from(`${i}`) }]);
  process.stdout.write(`${i}\n`);
}
