import { writeFile } from 'node:fs/promises';
import { readModel } from '../inference/onnx/model.ts';
import { withInitializers } from '../inference/onnx/with-initializers.ts';
import type { Parameters } from '../params/parameters.ts';
import type { PipelineOptions } from './pipeline.ts';
import type { Reporter } from './reporter.ts';

/** Writes what `--save-state` and `--save` ask for: a state dict, and the ONNX model of `--model` with these weights. */
export async function save(params: Parameters, options: PipelineOptions, report: Reporter): Promise<void> {
  if (options.saveState !== undefined) {
    await writeFile(String(options.saveState), params.stateDict());
    report.line(`state of version ${params.version} saved to ${options.saveState}`);
  }
  if (options.save !== undefined) {
    const weights = Object.fromEntries([...params].map(({ name, data }) => [name, data]));
    await writeFile(String(options.save), withInitializers(readModel(String(options.model)), weights, { alone: true }));
    report.line(`version ${params.version} saved to ${options.save}`);
  }
}
