import { randomUUID } from 'node:crypto';

const printable = /^[\x21-\x7e]{1,128}$/;
const traceparent = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** The id that a client gave its request, where that can stand in a log; else a new one. */
export function requestIdOf(given: string | undefined): string {
  return given !== undefined && printable.test(given) ? given : randomUUID();
}

/** The trace that a request belongs to, from a `traceparent` header of W3C's Trace Context; nothing where it says none. */
export function traceOf(header: string | undefined): { readonly traceId?: string; readonly parentId?: string } {
  const [, version, traceId, parentId, , rest] = traceparent.exec(header ?? '') ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && rest !== undefined)) return {};
  if (/^0+$/.test(traceId!) || /^0+$/.test(parentId!)) return {};
  return { traceId: traceId!, parentId: parentId! };
}
