import { Metadata, status } from '@grpc/grpc-js';
import { isRxgradError } from '../../errors.ts';

const codes: Readonly<Record<number, status>> = {
  400: status.INVALID_ARGUMENT,
  401: status.UNAUTHENTICATED,
  403: status.PERMISSION_DENIED,
  404: status.NOT_FOUND,
  408: status.DEADLINE_EXCEEDED,
  409: status.FAILED_PRECONDITION,
  413: status.RESOURCE_EXHAUSTED,
  422: status.INVALID_ARGUMENT,
  429: status.RESOURCE_EXHAUSTED,
  499: status.CANCELLED,
  503: status.UNAVAILABLE,
  504: status.DEADLINE_EXCEEDED,
};

/** The header (a trailer) that holds an error's code. */
export const codeHeader = 'rxgrad-code';

/** What a client is told of an error. Of one that is not rxgrad's, no more than that there was one. */
export function statusOf(error: unknown): { code: status; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  if (!isRxgradError(error)) return { code: status.INTERNAL, details: 'the server failed; its log says how', metadata };
  metadata.set(codeHeader, error.code);
  // grpc-js puts it through encodeURI, which half a character would make fail.
  return { code: codes[error.status] ?? status.INTERNAL, details: error.message.toWellFormed(), metadata };
}
