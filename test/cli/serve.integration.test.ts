import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { kafkaTransport } from '../../src/sources/kafka/index.ts';
import { ProcessCluster } from '../broker/process-cluster.ts';
import { linearModel } from '../serve/everything-model.ts';
import { publishedTraining } from '../serve/published-training.ts';
import { predict, ServeProcess } from '../serve/serve-process.ts';

describe.skipIf(inject('clusterMissing'))('rxgrad serve as a replica', () => {
  let cluster: ProcessCluster;
  let folder: string;
  let linear: string;

  beforeAll(async () => {
    cluster = await ProcessCluster.start();
    folder = mkdtempSync(join(tmpdir(), 'rxgrad-serve-'));
    linear = join(folder, 'linear.onnx');
    writeFileSync(linear, linearModel());
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await cluster?.stop();
  });

  it('follows weights on Kafka, goes on with the last ones when Kafka is away, and follows again when it is back', async (context) => {
    const brokers = [cluster.nodes[0]!.address];
    const transport = kafkaTransport({ brokers });
    context.onTestFinished(() => transport.close());
    await transport.createTopic('weights', { compacted: true });
    const server = new ServeProcess(context, [
      linear,
      '--brokers',
      brokers.join(','),
      '--weights-from',
      'weights',
      '--weights-model',
      'm',
    ]);
    const url = await server.http();
    expect((await fetch(`${url}/v2/health/ready`)).status).toBe(503);
    const { step, end } = await publishedTraining(transport, 'm', linear);
    step();
    await server.said('ready', { version: 1 });
    expect(await predict(url)).toMatchObject({ status: 200, model_version: '1', outputs: [{ data: [8, 8] }] });
    step();
    await expect.poll(async () => (await predict(url)).model_version).toBe('2');

    await cluster.nodes[0]!.kill();
    for (let i = 0; i < 200; i++) {
      expect(await predict(url)).toMatchObject({ status: 200, model_version: '2', outputs: [{ data: [12, 12] }] });
    }
    expect((await fetch(`${url}/v2/health/ready`)).status).toBe(200);
    await cluster.nodes[0]!.start();
    step();
    await expect.poll(async () => (await predict(url)).model_version).toBe('3');
    expect(await predict(url)).toMatchObject({ outputs: [{ data: [16, 16] }] });
    await end();
    server.signal('SIGTERM');
    expect(await server.ended()).toBe(0);
  });

  it('says in a line that a topic is not there', async (context) => {
    const where = ['--brokers', cluster.nodes[0]!.address, '--weights-from', 'nowhere'];
    const server = new ServeProcess(context, [linear, ...where]);
    expect(await server.ended()).toBe(1);
    expect(server.stderr.trim()).toMatch(/^rxgrad: .*expected a topic that exists, got "nowhere".*RXGRAD_UNKNOWN_TOPIC\)$/);
  });
});
