import { create } from '@bufbuild/protobuf';
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { isRxgradError } from '../../errors.ts';
import { infer } from '../infer.ts';
import { decodedBytes, type InferRequest } from '../infer-request.ts';
import { modelMetadata, repositoryIndex, serverMetadata } from '../metadata.ts';
import type { ServedModel, ServedModels } from '../served-models.ts';
import { type Call, type CallSettings, streamed, unary } from './calls.ts';
import { type InferLimits, requestOf, responseOf } from './infer-messages.ts';
import {
  type ModelConfigRequest,
  ModelConfigResponseSchema,
  type ModelInferRequest,
  ModelInferResponseSchema,
  type ModelMetadataRequest,
  ModelMetadataResponseSchema,
  type ModelReadyRequest,
  ModelReadyResponseSchema,
  type ModelStatisticsRequest,
  ModelStatisticsResponseSchema,
  ModelStreamInferResponseSchema,
  type RepositoryIndexRequest,
  RepositoryIndexResponseSchema,
  ServerLiveResponseSchema,
  ServerMetadataResponseSchema,
  ServerReadyResponseSchema,
} from './inference_pb.ts';
import { configMessage, statisticsMessage, tensorMessage } from './model-messages.ts';
import { statusOf } from './status.ts';

export interface HandlerOptions extends CallSettings {
  readonly models: ServedModels;
  readonly limits: InferLimits;
  /** Whether requests are wanted: all models are warm, and the server is not about to end. */
  ready(): boolean;
}

/** Which model a request is about. */
type Asked = ModelReadyRequest | ModelMetadataRequest | ModelConfigRequest | ModelStatisticsRequest;

/** What the server answers to each method of the protocol. */
export function inferenceHandlers(options: HandlerOptions): UntypedServiceImplementation {
  const { models, limits, ready } = options;

  async function modelOf({ name, version }: Asked): Promise<ServedModel> {
    const model = models.find(name);
    await model.assertVersion(version || null);
    return model;
  }

  /** Those that a request without a name means, too. */
  async function modelsOf(request: ModelStatisticsRequest): Promise<ServedModel[]> {
    return request.name === '' ? [...models] : [await modelOf(request)];
  }

  function counted(message: ModelInferRequest, call: Call): InferRequest {
    const request = requestOf(message, limits);
    // Raw contents are views of the message, which is counted already.
    if (message.rawInputContents.length === 0) call.countDecoded(2 * decodedBytes(request.inputs));
    return request;
  }

  return {
    serverLive: unary(options, 'ServerLive', () => create(ServerLiveResponseSchema, { live: true })),
    serverReady: unary(options, 'ServerReady', () => create(ServerReadyResponseSchema, { ready: ready() })),
    modelReady: unary(options, 'ModelReady', async (request: ModelReadyRequest) =>
      create(ModelReadyResponseSchema, { ready: (await modelOf(request)).ready }),
    ),
    serverMetadata: unary(options, 'ServerMetadata', () => {
      const { name, version, extensions } = serverMetadata();
      return create(ServerMetadataResponseSchema, { name, version, extensions: [...extensions] });
    }),
    modelMetadata: unary(options, 'ModelMetadata', async (request: ModelMetadataRequest) => {
      const { name, versions, platform, inputs, outputs } = await modelMetadata(await modelOf(request));
      return create(ModelMetadataResponseSchema, {
        name,
        versions: [...versions],
        platform,
        inputs: inputs.map(tensorMessage),
        outputs: outputs.map(tensorMessage),
      });
    }),
    modelConfig: unary(options, 'ModelConfig', async (request: ModelConfigRequest) =>
      create(ModelConfigResponseSchema, { config: configMessage(await modelOf(request)) }),
    ),
    modelStatistics: unary(options, 'ModelStatistics', async (request: ModelStatisticsRequest) =>
      create(ModelStatisticsResponseSchema, { modelStats: (await modelsOf(request)).map(statisticsMessage) }),
    ),
    repositoryIndex: unary(options, 'RepositoryIndex', (request: RepositoryIndexRequest) =>
      create(RepositoryIndexResponseSchema, { models: repositoryIndex(models, request.ready) }),
    ),
    modelInfer: unary(options, 'ModelInfer', async (request: ModelInferRequest, call) =>
      responseOf(await infer(models, counted(request, call), call.context)),
    ),
    modelStreamInfer: streamed<ModelInferRequest, ReturnType<typeof answer>>(
      options,
      'ModelStreamInfer',
      async (request, call) => {
        if (isRxgradError(request)) return failure(request, '');
        try {
          return answer(responseOf(await infer(models, counted(request, call), call.context)));
        } catch (error) {
          return failure(error, request.id);
        }
      },
    ),
  };
}

function answer(inferResponse: ReturnType<typeof responseOf>) {
  return create(ModelStreamInferResponseSchema, { inferResponse });
}

/** On a stream, a request that fails does not end the others. The id tells which it was. */
function failure(error: unknown, id: string): ReturnType<typeof answer> {
  return create(ModelStreamInferResponseSchema, {
    errorMessage: statusOf(error).details,
    inferResponse: create(ModelInferResponseSchema, { id }),
  });
}
