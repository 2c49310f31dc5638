import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { errorCatalogue } from '../src/errors.ts';
import { optimizersPage } from './generate-optimizers.ts';
import { writeSchedulePages } from './generate-schedules.ts';
import { table } from './markdown.ts';

/** The page of errors, from the table of errors. */
export function errorsPage(): string {
  const rows = errorCatalogue().map(({ code, disposition, status, message }) => [
    `\`${code}\``,
    disposition,
    String(status),
    message,
  ]);
  return [
    '# Errors',
    '',
    'Made by `npm run docs:generate` from `src/errors.ts`. *skip*: the event is left out and the stream goes on. *retry*: the same',
    'call may succeed later. *stop*: it will not until something is changed.',
    '',
    ...table(['code', 'what to do', 'HTTP', 'message'], rows),
    '',
  ].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(new URL('./errors.md', import.meta.url), errorsPage());
  writeFileSync(new URL('./optimizers.md', import.meta.url), optimizersPage());
  writeSchedulePages();
}
