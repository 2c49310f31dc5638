import type { InferRequest, InferResponse } from '../infer-request.ts';
import { writeRaw } from '../raw-contents.ts';
import { writeTensorJson } from './tensor-json.ts';

/** A response's body: text where all of it is JSON; else bytes, the first `headerLength` of which are. */
export type InferBody = string | { readonly bytes: Buffer; readonly headerLength: number };

/** Writes a response, each output as the request asked for it: `binary_data` of an output, or `binary_data_output` for all. */
export function writeInfer(request: InferRequest, response: InferResponse): InferBody {
  const parts: Uint8Array[] = [];
  let outputs = '';
  for (const [i, { name, datatype, shape, data }] of response.outputs.entries()) {
    if (i > 0) outputs += ',';
    outputs += `{"name":${quoted(name)},"datatype":"${datatype}","shape":[${shape}],`;
    if (isBinary(request, i)) {
      const bytes = writeRaw({ datatype, data });
      parts.push(bytes);
      outputs += `"parameters":{"binary_data_size":${bytes.length}}}`;
    } else {
      outputs += `"data":${writeTensorJson(datatype, data)}}`;
    }
  }
  const id = response.id === '' ? '' : `"id":${JSON.stringify(response.id)},`;
  const parameters = JSON.stringify(response.parameters);
  const json = `{"model_name":${quoted(response.model)},"model_version":"${response.version}",${id}"parameters":${parameters},"outputs":[${outputs}]}`;
  if (parts.length === 0) return json;
  const header = Buffer.from(json);
  return { bytes: Buffer.concat([header, ...parts]), headerLength: header.length };
}

function isBinary({ parameters, outputs }: InferRequest, i: number): boolean {
  return (outputs[i]?.parameters.binary_data ?? parameters.binary_data_output) === true;
}

/** Names of models and tensors come again and again; there are as many as the models have. */
const texts = new Map<string, string>();

function quoted(name: string): string {
  let text = texts.get(name);
  if (text === undefined) {
    text = JSON.stringify(name);
    texts.set(name, text);
  }
  return text;
}
