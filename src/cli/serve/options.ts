import type { PipelineOption } from '../pipeline.ts';

/** What the options of `serve` parse to. */
export interface ServeCommandOptions {
  readonly host: string;
  readonly port: number;
  readonly grpc: boolean;
  readonly grpcPort: number;
  readonly name?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
  readonly adminTokenFile?: string;
  readonly workers: number;
  readonly strategy: 'inputs' | 'rebuild' | 'auto';
  readonly providers?: string;
  readonly maxBatch: number;
  readonly maxDelayMs: number;
  readonly maxQueue: number;
  readonly deadlineMs: number;
  readonly maxStalenessMs?: number;
  readonly maxStalenessVersions?: number;
  readonly whenStale: 'serve' | 'warn' | 'reject';
  readonly keep: number;
  readonly keepEveryMs: number;
  readonly checkpoints?: string;
  readonly checkpointTopic?: string;
  readonly checkpointModel?: string;
  readonly weightsFrom?: string;
  readonly weightsModel?: string;
  readonly weightsRequests?: string;
  readonly bodyLimit: number;
  readonly bytesInFlight?: number;
  readonly maxConnections: number;
  readonly drainMs: number;
  readonly warmUp?: string;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  readonly logEvery: number;
}

/** The options of `serve`, beside those that say which log it goes through. */
export const serveOptions: readonly PipelineOption[] = [
  { flags: '--host <address>', summary: 'where to listen', default: '127.0.0.1' },
  { flags: '--port <port>', summary: 'of HTTP; 0 for any that is free', default: 8000, number: 'whole' },
  { flags: '--grpc-port <port>', summary: 'of gRPC; 0 for any that is free', default: 8001, number: 'whole' },
  { flags: '--no-grpc', summary: 'serve HTTP alone' },
  { flags: '--name <name>', summary: 'what clients call the model (default: its file without .onnx)' },
  { flags: '--tls-cert <file>', summary: 'certificate (PEM), with --tls-key: HTTPS, and gRPC over TLS' },
  { flags: '--tls-key <file>', summary: 'key of the certificate (PEM)' },
  { flags: '--tls-ca <file>', summary: 'authorities of clients (PEM): lets in those alone that have a certificate of theirs' },
  {
    flags: '--admin-token-file <file>',
    summary: 'file of the token that opens the admin routes (or RXGRAD_ADMIN_TOKEN; without one they are closed)',
  },
  { flags: '--workers <count>', summary: 'threads that predict; 0: the one that also serves', default: 0, number: 'whole' },
  {
    flags: '--strategy <name>',
    summary: 'how weights are changed; auto measures which is faster',
    default: 'inputs',
    choices: ['inputs', 'rebuild', 'auto'],
  },
  { flags: '--providers <names>', summary: 'execution providers of onnxruntime, the best first (default: cpu)' },
  {
    flags: '--max-batch <rows>',
    summary: 'rows that are predicted at once; 1 for each request by itself',
    default: 64,
    number: 'whole',
  },
  { flags: '--max-delay-ms <ms>', summary: 'how long a batch waits for more rows', default: 0, number: 'any' },
  { flags: '--max-queue <count>', summary: 'predictions that may wait; more are refused', default: 1024, number: 'whole' },
  { flags: '--deadline-ms <ms>', summary: 'how long a prediction may take, its wait included', default: 30_000, number: 'any' },
  { flags: '--max-staleness-ms <ms>', summary: 'age from which weights are stale', number: 'any' },
  {
    flags: '--max-staleness-versions <count>',
    summary: 'versions behind the newest from which weights are stale',
    number: 'whole',
  },
  {
    flags: '--when-stale <action>',
    summary: 'what becomes of predictions then',
    default: 'warn',
    choices: ['serve', 'warn', 'reject'],
  },
  { flags: '--keep <count>', summary: 'versions that stay in memory, to go back to; 0: none', default: 5, number: 'whole' },
  { flags: '--keep-every-ms <ms>', summary: 'time between two of them', default: 10_000, number: 'any' },
  { flags: '--checkpoints <folder>', summary: 'folder of checkpoints to go back to' },
  { flags: '--checkpoint-topic <name>', summary: 'compacted topic of them, in the place of a folder' },
  { flags: '--checkpoint-model <name>', summary: 'whose they are in that topic (default: model)' },
  { flags: '--weights-from <topic>', summary: 'follow the weights that are published there; ready when the first are there' },
  { flags: '--weights-model <name>', summary: 'what they are published as (default: the name that clients call the model)' },
  { flags: '--weights-requests <topic>', summary: 'where to ask for a snapshot when weights are missing' },
  { flags: '--body-limit <bytes>', summary: 'of a request, decompressed', default: 64 * 2 ** 20, number: 'whole' },
  {
    flags: '--bytes-in-flight <bytes>',
    summary: 'of all requests that come or wait for their answer (default: 256 MiB, or four times --body-limit)',
    number: 'whole',
  },
  { flags: '--max-connections <count>', summary: 'open at once, of HTTP and gRPC each', default: 4096, number: 'whole' },
  { flags: '--drain-ms <ms>', summary: 'how long requests under way may take when it ends', default: 10_000, number: 'any' },
  { flags: '--warm-up <file>', summary: 'requests to warm up with: JSON of the protocol, one a line (default: made up)' },
  {
    flags: '--log-level <level>',
    summary: 'of the lines (JSON) on standard output',
    default: 'info',
    choices: ['debug', 'info', 'warn', 'error', 'silent'],
  },
  {
    flags: '--log-every <count>',
    summary: 'write a line for one in so many requests that went well; 0: for none',
    default: 0,
    number: 'whole',
  },
];
