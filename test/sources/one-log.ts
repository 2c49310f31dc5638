import { encodeEvent, epochBoundary, fromTransport, gradientBatch, optimizer, Parameters, stepLR, type Transport } from 'rxgrad';
import { lastValueFrom } from 'rxjs';
import { expect } from 'vitest';

const batches = 2000;

/** A log of 2,000 batches of two workers, with epochs: the same at every call. */
export function recordedLog() {
  let state = 1;
  // xorshift32: the same numbers on every machine.
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
  const tensor = (dims: number[]) => ({ dims, data: Float32Array.from({ length: dims.reduce((a, b) => a * b) }, random) });
  return Array.from({ length: batches }, (_, i) => {
    const gradients = {
      'dense.weight': tensor([7, 13]),
      'dense.bias': tensor([13]),
      ...(i % 3 === 0 ? {} : { head: tensor([13, 5]) }),
    };
    // Of weights that are there also where seven batches make a step.
    const base = i >> 3;
    const batch = gradientBatch({ gradients, worker: `w${i % 2}`, sequence: i, base, batchSize: 32, loss: random() });
    return i % 100 === 99 ? [batch, epochBoundary(i)] : [batch];
  }).flat();
}

export const model = () =>
  Parameters.create({ 'dense.weight': { dims: [7, 13] }, 'dense.bias': { dims: [13] }, head: { dims: [13, 5] } });

/** The rule that every log is played through. */
export const rule = (params: Parameters) =>
  optimizer(params, {
    type: 'Momentum',
    lr: stepLR({ baseLr: 0.1, stepSize: 3, gamma: 0.7 }),
    momentum: 0.9,
    weightDecay: 1e-3,
    gradClipNorm: 1,
    gradClipValue: 0.2,
  });

/** Every bit of the weights. */
export function bitsOf(params: Parameters): number[] {
  return [...params].flatMap(({ data }) => [...new Uint32Array(data.slice().buffer)]);
}

/** Writes the log to a transport, plays it from there, and returns the bits of the weights that it comes to. */
export async function playThrough(transport: Transport, topic: string): Promise<number[]> {
  await transport.createTopic(topic);
  const records = recordedLog().map((event) => encodeEvent(event, { key: 'model', source: 'scheduler' }));
  await transport.produce(topic, records);
  const params = model();
  const last = await lastValueFrom(fromTransport(transport, { topic, from: 'beginning', until: 'end' }).pipe(rule(params)));
  expect(last.step).toBe(batches);
  expect(last.position).toEqual({ topic, partition: 0, offset: records.length - 2 });
  return bitsOf(params);
}
