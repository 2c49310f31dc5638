import { ProcessCluster } from './process-cluster.ts';

// Starts a broker as a process, prints its address, and ends it on SIGINT or SIGTERM:
// node test/broker/run-broker.ts [1|3]
const cluster = await ProcessCluster.start({ lasting: true, nodes: process.argv[2] === '3' ? 3 : 1 });
console.log(cluster.brokers);

const staysAlive = setInterval(() => {}, 60_000);
const end = async () => {
  clearInterval(staysAlive);
  await cluster.stop();
};
process.once('SIGINT', end).once('SIGTERM', end);
