import type { KafkaMessage } from 'kafkajs';
import type { HeaderValue, LogRecord } from '../transport.ts';

const noBytes = Buffer.alloc(0);
const none: LogRecord['headers'] = Object.freeze({});

/** Maps what kafkajs has fetched, leaving out what is below `first`. Keys, values and headers are views, not copies. */
export function logRecords(messages: readonly KafkaMessage[], first: number): LogRecord[] {
  const records: LogRecord[] = [];
  for (const { offset: offsetText, key, value, headers, timestamp } of messages) {
    const offset = Number(offsetText);
    if (offset < first) continue;
    records.push({ offset, key, value, headers: single(headers), timestampMs: Number(timestamp) });
  }
  return records;
}

/** Takes the last value of a header that was given several times, which kafkajs shows as an array; and no bytes for none. */
function single(headers: KafkaMessage['headers']): LogRecord['headers'] {
  if (headers === undefined) return none;
  for (const name in headers) {
    const value = headers[name];
    if (Array.isArray(value)) headers[name] = value.at(-1);
    headers[name] ??= noBytes;
  }
  return headers as Record<string, HeaderValue>;
}
