import { isRxgradError } from '../../errors.ts';
import { shownText } from '../shown-text.ts';

/** What a request that failed is answered with. */
export interface ErrorAnswer {
  readonly status: number;
  readonly message: string;
  /** Seconds after which it may go better; 0 where it will not. */
  readonly retry: number;
}

const messages: Readonly<Record<string, string>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'Content-Type: expected application/json or application/octet-stream, got another one',
  FST_ERR_BAD_URL: 'path: expected one that can be decoded, got another one',
  FST_ERR_MAX_PARAM_LENGTH: 'path: expected names of at most 256 characters, got a longer one',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'body: expected as many bytes as Content-Length says, got others',
};

/** Turns whatever was thrown into an answer; of what nobody foresaw, nothing is told. */
export function answerError(error: unknown): ErrorAnswer {
  if (isRxgradError(error)) {
    const { status, message, disposition, details } = error;
    return { status, message, retry: disposition === 'retry' ? Number(details.seconds ?? 1) : 0 };
  }
  const { statusCode, code, message } = (error ?? {}) as { statusCode?: unknown; code?: unknown; message?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return { status: statusCode, message: messages[String(code)] ?? shownText(String(message)), retry: 0 };
  }
  return { status: 500, message: 'The server failed; its log says why under the id of this request', retry: 0 };
}

/** The body of a failed request, as the protocol has it. */
export function errorBody(message: string): string {
  return JSON.stringify({ error: message });
}
