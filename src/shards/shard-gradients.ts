import { RxgradError } from '../errors.ts';
import { GradientBatch, placeOf } from '../events.ts';
import { misfitOf } from '../optimizers/plan.ts';
import { refuseNorm, type TensorSpec } from '../payload.ts';
import { inWorkspace } from '../pending.ts';
import { type TensorBytes, writePayload } from '../write-payload.ts';
import { cutDense, cutRows, numbersOf } from './cut-tensor.ts';
import { checkedPlan, type Piece, type ShardPlan, type Whole } from './plan.ts';

/**
 * Cuts a batch of the whole model's gradients into one for each shard: elements as they are, and the facts of the whole with its
 * norm, which clipping goes by. A shard of whose parameters there are none gets a batch all the same, so that all versions go on
 * together. What is pending is done first, but for stale gradients being dropped, which the scans do; then elements are F32.
 *
 * Fails where the batch does not fit the plan, and where it says a norm that it cannot have. One that is not finite becomes
 * batches whose norm is NaN, which each shard rejects. Batches have no place in a log: acknowledge the one that was cut.
 *
 * @example
 * const batch = gradientBatch({ gradients: { w: new Float32Array(12) }, worker: 'w1', sequence: 7 });
 * const plan = shardPlan({ w: { dims: [12] } }, { shards: 2 });
 * const records = shardGradients(batch, plan).map((part, partition) => ({ ...encodeEvent(part), partition }));
 * await transport.produce('gradients', records);
 */
export function shardGradients(batch: GradientBatch, plan: ShardPlan): GradientBatch[] {
  const { wholes, plan: checked } = checkedPlan(plan);
  const whole = batch.pending ? batch.withGradients(batch.gradients) : batch;
  const { layout, payload } = whole.message;
  const where = placeOf(batch.delivery);
  const norm = normOf(whole, where);
  const tensors = checked.shards.map((): TensorBytes[] => []);
  for (const tensor of layout.tensors) {
    const parameter = wholes.get(tensor.name);
    if (!parameter) {
      throw new RxgradError('unknownParameter', { where, parameter: tensor.name, expected: [...wholes.keys()].join(', ') });
    }
    const misfit = misfitOf(tensor, parameter.dims);
    if (misfit) throw new RxgradError('wrongShape', { where, parameter: tensor.name, ...misfit });
    const cut = cutter(tensor, payload, parameter, where);
    for (const piece of parameter.pieces) tensors[piece.shard]!.push(cut(piece));
  }
  const facts = { ...whole.facts, norm };
  return tensors.map((own) => new GradientBatch({ ...writePayload(own), facts, delivery: null }, whole.pending));
}

/** The norm of the whole batch: what its producer says, or what a scan would find. */
function normOf({ message }: GradientBatch, where: string): number {
  const { layout, facts } = message;
  if (layout.tensors.length === 0 && facts.norm === undefined) throw new RxgradError('emptyBatch', { where });
  return inWorkspace(message, null, (_arena, _at, taken) => {
    if (!Number.isFinite(taken.sumOfSquares)) return Number.NaN;
    const refusal = refuseNorm(facts.norm, layout, taken);
    if (refusal) throw refusal(where);
    return facts.norm ?? Math.sqrt(taken.sumOfSquares);
  });
}

function cutter(tensor: TensorSpec, payload: Uint8Array, parameter: Whole, where: string): (piece: Piece) => TensorBytes {
  if (!tensor.rows) return (piece) => cutDense(tensor, payload, parameter, piece);
  const numbers = numbersOf(tensor.rows, payload);
  const got = numbers.find((number) => number < 0 || number >= parameter.rows);
  if (got !== undefined) {
    throw new RxgradError('rowOutOfRange', { where, parameter: tensor.name, expected: parameter.rows - 1, got });
  }
  return (piece) => cutRows(tensor, payload, numbers, parameter, piece);
}
