import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

/** What figures depend on. */
export function machine() {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    v8: process.versions.v8,
    rxgrad: versionOf('..'),
    rxjs: versionOf('../node_modules/rxjs'),
    kafkajs: versionOf('../node_modules/kafkajs'),
    'onnxruntime-node': versionOf('../node_modules/onnxruntime-node'),
  };
}

function versionOf(folder: string): string {
  return JSON.parse(readFileSync(new URL(`./${folder}/package.json`, import.meta.url), 'utf8')).version;
}
