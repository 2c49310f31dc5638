import { type DescMessage, type DescMethod, type DescService, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { RxgradError } from '../../errors.ts';
import { GRPCInferenceService, ModelInferRequestSchema } from './inference_pb.ts';
import { assertModest } from './modest.ts';

/** A message, or why it could not be read: thrown while reading, grpc-js would call it an error of the server's. */
export type Received<T extends Message> = T | RxgradError;

type Method = MethodDefinition<Received<Message>, Message>;

/** Describes the service to grpc-js, with the messages of protobuf-es. For a server and a client alike. */
export const inferenceService: ServiceDefinition = definitionOf(GRPCInferenceService);

function definitionOf(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.localName, methodOf(service, method)]));
}

function methodOf(service: DescService, { name, methodKind, input, output }: DescMethod): Method {
  return {
    path: `/${service.typeName}/${name}`,
    requestStream: methodKind === 'client_streaming' || methodKind === 'bidi_streaming',
    responseStream: methodKind === 'server_streaming' || methodKind === 'bidi_streaming',
    requestSerialize: writer(input),
    requestDeserialize: (bytes) => received(name, input, bytes),
    responseSerialize: writer(output),
    responseDeserialize: (bytes) => fromBinary(output, bytes),
  };
}

function writer(schema: DescMessage): (message: unknown) => Buffer {
  return (message) => {
    const { buffer, byteOffset, byteLength } = toBinary(schema, message as Message);
    return Buffer.from(buffer, byteOffset, byteLength);
  };
}

function received(method: string, schema: DescMessage, bytes: Uint8Array): Received<Message> {
  try {
    if (schema === ModelInferRequestSchema) assertModest(method, bytes);
    // Fields that nobody reads are not kept either.
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (cause) {
    if (cause instanceof RxgradError) return cause;
    const got = `bytes that are none (${(cause as Error).message})`;
    return new RxgradError('invalidRequest', { where: method, expected: schema.typeName, got }, { cause });
  }
}
