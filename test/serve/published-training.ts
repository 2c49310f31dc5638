import { gradientBatch, HotSwapSession, momentum, type PublishWeightsOptions, publishWeights, type Transport } from 'rxgrad';
import { lastValueFrom, Subject } from 'rxjs';

/** Trains the linear model, and publishes its weights on the topic `weights` step by step: those of step n make the linear model answer 4 + 4n. */
export async function publishedTraining(
  transport: Transport,
  model: string,
  onnx: string | Uint8Array,
  more: Partial<PublishWeightsOptions> = {},
) {
  const session = await HotSwapSession.load(onnx);
  const gradients$ = new Subject<ReturnType<typeof gradientBatch>>();
  const published = lastValueFrom(
    gradients$.pipe(
      momentum(session.params, { lr: 1, momentum: 0 }),
      publishWeights(transport, { topic: 'weights', model, everySteps: 1, conflate: false, ...more }),
    ),
  );
  return {
    step: () => gradients$.next(gradientBatch({ gradients: { w: { dims: [4, 2], data: new Float32Array(8).fill(-1) } } })),
    async end() {
      gradients$.complete();
      await published;
      await session.dispose();
    },
  };
}
