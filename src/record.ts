export type HeaderValue = string | Uint8Array;

/** A record as the log holds it. */
export interface LogRecord {
  readonly offset: number;
  readonly key: Uint8Array | null;
  readonly value: Uint8Array | null;
  readonly headers: Readonly<Record<string, HeaderValue>>;
  /** Milliseconds since 1970 (UTC) at which it was appended. */
  readonly timestampMs: number;
}
