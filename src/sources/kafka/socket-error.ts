export type Advice = readonly [problem: string, advice: string];

interface SocketFailure {
  readonly code?: unknown;
  readonly message?: string;
}

/** By the beginning of a code, from Node.js, OpenSSL, or here; each is final. */
const known: readonly (readonly [beginning: RegExp, problem: string, advice: string])[] = [
  [/^CERT_HAS_EXPIRED/, "the broker's certificate has expired", 'Renew it, or check the clock of this machine'],
  [/^CERT_NOT_YET_VALID/, "the broker's certificate is not valid yet", 'Check the clock of this machine, and of the broker'],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID/,
    "the broker's certificate is made out to another host",
    'Check brokers, and the names in the certificate; or name the right one as ssl.servername',
  ],
  [
    /^(DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED|UNABLE_TO_|CERT_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED)/,
    "the broker's certificate is not trusted",
    'Give the certificate of its authority as ssl.ca, and check that this is the right broker',
  ],
  [
    /^ERR_SSL_.*ALERT_(BAD_CERTIFICATE|CERTIFICATE_|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE)/,
    "the broker does not accept this client's certificate, or lacks it",
    'Check ssl.cert and ssl.key (or ssl.pfx), and which authorities the broker trusts',
  ],
  [
    /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|.*RECORD)/,
    'the port does not speak TLS',
    "Check brokers: which of the broker's listeners is it? Or leave ssl out",
  ],
  [/^EXPECTED_TLS/, 'the broker wants an encrypted connection', 'Set ssl'],
  [/^NO_BROKER/, 'something else than a Kafka broker listens there', 'Check brokers'],
  [/^LARGE_ANSWER/, 'the broker sends more than is read at once', 'Raise maxRecordBytes, or see who writes to the topic'],
];

/** Whether a connection failed for a reason that stays: kafkajs keeps the code of a socket's error. */
export function isFinalSocketError({ code }: SocketFailure): boolean {
  return known.some(([beginning]) => typeof code === 'string' && beginning.test(code));
}

/** What is wrong with a connection, where that can be told. */
export function socketAdvice({ code, message = '' }: SocketFailure): Advice | null {
  const found = known.find(([beginning]) => typeof code === 'string' && beginning.test(code));
  if (found) return [`${found[1]} (${reasonIn(message)})`, found[2]];
  if (/^ERR_(SSL|TLS)_/.test(String(code))) {
    return [
      `no encrypted connection can be made (${reasonIn(message)})`,
      'Check ssl, and which versions of TLS the broker speaks',
    ];
  }
  if (/before secure TLS connection/.test(message)) {
    return [
      'the connection was closed before it was encrypted',
      'Check brokers: does this port of the broker speak TLS? If not, leave ssl out',
    ];
  }
  if (/^Closed connection|^Connection closed by the server/.test(message)) {
    return [
      'the broker closed the connection',
      'Check ssl and sasl: does this port of the broker want them, or others? Does it still run?',
    ];
  }
  return null;
}

/** Of a line such as "40BD:error:0A000412:SSL routines:ssl3_read_bytes:bad certificate:../file.c:918:", what a person can use. */
function reasonIn(message: string): string {
  const [, , , , reason] = /:error:([^:]*):([^:]*):([^:]*):([^:]*)/.exec(message) ?? [];
  return reason ?? message.replace('Connection error: ', '').replace(/;.*/, '');
}
