import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { type PlacedTensor, widthOf } from '../../payload.ts';
import { type Materialised, materialise } from '../../pending.ts';
import { originalHeaders, readDeadLetter, textOf } from '../../sinks/dead-letter.ts';
import { SafetensorsReader } from '../../sources/safetensors.ts';
import type { LogRecord } from '../../sources/transport.ts';
import { addConnectionOptions, openConnection } from '../connection.ts';
import { createReporter, type Reporter } from '../reporter.ts';
import { ageOf, atPositions, type ListedLetter, printable, readLetters, readRecords } from './letters.ts';

const SHOWN_BYTES = 64;

/** Makes the command `dead-letters show`. */
export function showCommand(): Command {
  const command = new Command('show')
    .summary('show one letter: why, its headers, and what is in it')
    .description('Shows one letter: why it was rejected, the headers and tensors of its record, or its first bytes.')
    .argument('<topic>', 'dead-letter topic')
    .argument('<position>', 'where its record stood, as `list` shows it: gradients/0@77')
    .option('--save <file>', "write the record's value there, to the byte");
  addConnectionOptions(command);
  return command.action(async (topic: string, position: string, { save }: { save?: string }) => {
    const { transport, close } = await openConnection(command);
    try {
      const chosen = atPositions(await readLetters(transport, topic), [position], topic);
      await readRecords(transport, topic, chosen, async (letter, record) => {
        print(letter, record);
        if (save === undefined) return;
        await writeFile(save, record.value ?? new Uint8Array());
        console.log(`${record.value?.byteLength ?? 0} bytes saved to ${save}`);
      });
    } finally {
      await close();
    }
  });
}

function print(letter: ListedLetter, record: LogRecord): void {
  const report = createReporter(process.stdout);
  const { message = '', code = '' } = readDeadLetter(record, letter.partition) ?? {};
  report.line(`${printable(message, 2000)} (${printable(code)})`);
  report.table(
    ['letter', ''],
    [
      ['position', printable(letter.id)],
      ['rejected at', `${printable(letter.at)}, ${new Date(letter.rejectedMs).toISOString()} (${ageOf(letter.rejectedMs)} ago)`],
      ['attempt', String(letter.attempt)],
      ['retried as', letter.retriedAs === null ? '–' : printable(letter.retriedAs)],
      ['key', record.key === null ? '–' : printable(textOf(record.key)!)],
      ['value', record.value === null ? 'none' : `${record.value.byteLength} bytes`],
    ],
  );
  const headers = Object.entries(originalHeaders(record.headers));
  if (headers.length > 0)
    report.table(
      ['header', ''],
      headers.map(([name, value]) => [printable(name), printable(textOf(value)!, 100)]),
    );
  if (record.value) printValue(report, record.value);
}

function printValue(report: Reporter, value: Uint8Array): void {
  const read = new SafetensorsReader().read(value);
  if (typeof read === 'function') {
    const bytes = Buffer.from(value.buffer, value.byteOffset, Math.min(value.byteLength, SHOWN_BYTES));
    report.line(`first bytes: ${bytes.toString('hex').replace(/(..)(?=.)/g, '$1 ')}`);
    report.line(`as text: ${printable(bytes.toString('utf8'), 200)}`);
    return;
  }
  const all = materialise({ layout: read.layout, payload: read.payload, facts: {} }, null);
  const rows = read.layout.tensors.map((tensor, i) => {
    const { name, dims, dtype, length } = tensor;
    const { nan, infinite, least, largest, norm } = statisticsOf(tensor, all, i);
    const shape = `[${dims ?? length}]${tensor.rows ? ' rows' : ''}`;
    return [
      printable(name),
      shape,
      dtype,
      ...[nan, infinite].map(String),
      ...[least, largest, norm].map((one) => one.toPrecision(4)),
    ];
  });
  report.table(['tensor', 'dims', 'type', 'NaN', 'infinite', 'least', 'largest', 'norm'], rows);
}

/** Of rows, those that are left when the ones with the same number are added up. */
function statisticsOf(tensor: PlacedTensor, { elements, rows }: Materialised, index: number) {
  const { at, length } = tensor;
  let [nan, infinite, least, largest, squares] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  const count = rows[index] ? rows[index].length * widthOf(tensor) : length;
  for (const value of elements.subarray(at >> 2, (at >> 2) + count)) {
    if (Number.isNaN(value)) nan += 1;
    else if (!Number.isFinite(value)) infinite += 1;
    else {
      least = Math.min(least, value);
      largest = Math.max(largest, value);
      squares += value * value;
    }
  }
  return { nan, infinite, least, largest, norm: Math.sqrt(squares) };
}
