import { randomFillSync } from 'node:crypto';

/** Where a request stands in a distributed trace, as W3C Trace Context has it. */
export interface TraceContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** The caller's span; null where the trace begins here. */
  readonly parentId: string | null;
  /** This request's span: 16 hexadecimal digits. */
  readonly spanId: string;
  /** Two hexadecimal digits. */
  readonly flags: string;
}

const known = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
/** A later version's fields are these, and maybe more behind a dash. */
const later = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;
const zeros = /^0+$/;

/**
 * Goes on with the trace of a `traceparent` header. One that is malformed is ignored, as the recommendation says, and a new
 * trace begins.
 *
 * Reference: W3C Trace Context, https://www.w3.org/TR/trace-context/
 */
export function traceContext(traceparent: unknown): TraceContext {
  const fields = typeof traceparent === 'string' ? (traceparent.startsWith('00') ? known : later).exec(traceparent) : null;
  const spanId = randomHex(8);
  if (!fields || zeros.test(fields[1]!) || zeros.test(fields[2]!)) {
    return { traceId: randomHex(16), parentId: null, spanId, flags: '00' };
  }
  // Of the flags, only "sampled" has a meaning that can be passed on.
  return { traceId: fields[1]!, parentId: fields[2]!, spanId, flags: Number.parseInt(fields[3]!, 16) & 1 ? '01' : '00' };
}

/** The header that says so to whom comes next. */
export function traceparentOf({ traceId, spanId, flags }: TraceContext): string {
  return `00-${traceId}-${spanId}-${flags}`;
}

const pool = Buffer.alloc(4096);
let used = pool.length;

function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return pool.toString('hex', used - bytes, used);
}
