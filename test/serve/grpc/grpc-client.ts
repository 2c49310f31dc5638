import type { Message } from '@bufbuild/protobuf';
import { type ChannelCredentials, Client, credentials, Metadata, type MethodDefinition, type ServiceError } from '@grpc/grpc-js';
import type { TestContext } from 'vitest';
import { inferenceService } from '../../../src/serve/grpc/service-definition.ts';

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

export interface Answer<O> {
  readonly message: O;
  readonly trailers: Metadata;
}

/** A client of any method of the protocol, that closes with the test. */
export function grpcClient(context: TestContext, port: number, secured?: ChannelCredentials) {
  // A certificate is made out to a name.
  const host = secured ? 'localhost' : '127.0.0.1';
  const client = new Client(`${host}:${port}`, secured ?? credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.enable_retries': 0,
    'grpc.use_local_subchannel_pool': 1,
  });
  context.onTestFinished(() => client.close());

  /** Calls a method by its name in the service definition, or by any path with bytes. */
  function call<O extends Message>(method: string, request: Message | Uint8Array, options: CallOptions = {}): Promise<Answer<O>> {
    const { path, requestSerialize, responseDeserialize } = definitionOf(method);
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(options.headers ?? {})) metadata.set(name, value);
    const serialize = request instanceof Uint8Array ? (bytes: unknown) => Buffer.from(bytes as Uint8Array) : requestSerialize;
    const deadline = options.deadlineMs === undefined ? {} : { deadline: Date.now() + options.deadlineMs };
    return new Promise((resolve, reject) => {
      let message: O;
      let failure: ServiceError | null = null;
      const under = client.makeUnaryRequest(path, serialize, responseDeserialize, request, metadata, deadline, (error, value) => {
        failure = error;
        message = value as O;
      });
      options.signal?.addEventListener('abort', () => under.cancel());
      under.on('status', ({ metadata: trailers }) => {
        setImmediate(() => (failure ? reject(failure) : resolve({ message, trailers })));
      });
    });
  }
  return { client, call };
}

function definitionOf(method: string): MethodDefinition<unknown, unknown> {
  const known = inferenceService[method];
  return known ?? { ...inferenceService.serverLive!, path: method };
}
