import { KafkaContainer } from '@testcontainers/kafka';
import { asEnvironment, brokerSettings } from './broker-settings.ts';
import { leash } from './leash.ts';
import { waitUntilReady } from './wait-until-ready.ts';

/** The official image that KafkaContainer can start; KAFKA_IMAGE names another one. */
export const defaultImage = 'confluentinc/cp-kafka:8.1.0';

const kafkaPort = 9093;

export interface ContainerBroker {
  readonly brokers: string;
  readonly image: string;
  stop(): Promise<void>;
}

/** Starts Kafka in a container; resolves when a consumer group can commit. */
export async function startContainerBroker(image: string): Promise<ContainerBroker> {
  // An image built here (`docker/build-image.sh`) stands for a machine without a registry: the image of the reaper, which
  // would clean up after a crash, cannot be had there either.
  if (image.startsWith('local/')) {
    process.env.TESTCONTAINERS_RYUK_DISABLED ??= 'true';
    process.env.TESTCONTAINERS_HOST_OVERRIDE ??= '127.0.0.1';
  }
  const container = await new KafkaContainer(image)
    .withKraft()
    .withEnvironment(asEnvironment(brokerSettings(1)))
    .start();
  const brokers = `${container.getHost()}:${container.getMappedPort(kafkaPort)}`;
  const shell = leash('docker rm --force --volumes "$1"', container.getId());
  const stop = async () => {
    shell.kill('SIGKILL');
    await container.stop();
  };
  try {
    await waitUntilReady(brokers);
  } catch (error) {
    await stop();
    throw error;
  }
  return { brokers, image, stop };
}
