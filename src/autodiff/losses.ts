/** Binary cross-entropy of a logit z and a label y from 0 to 1: max(z, 0) − z·y + ln(1 + e^−|z|). */
export function bceOf(z: number, y: number): number {
  return Math.max(z, 0) - z * y + Math.log1p(Math.exp(-Math.abs(z)));
}

/** The largest of some logits, and Σ e^(z − largest), of which a softmax is made without overflow. */
export function softmaxSum(z: ArrayLike<number>): { readonly largest: number; readonly sum: number } {
  let largest = z[0]!;
  for (let c = 1; c < z.length; c++) largest = Math.max(largest, z[c]!);
  let sum = 0;
  for (let c = 0; c < z.length; c++) sum += Math.exp(z[c]! - largest);
  return { largest, sum };
}

/** Cross-entropy of the softmax of logits z and the class c: ln Σ e^z − z_c. */
export function crossEntropyOf(z: ArrayLike<number>, label: number, { largest, sum } = softmaxSum(z)): number {
  return Math.log(sum) + largest - z[label]!;
}
