import { isRxgradError, RxgradError } from '../errors.ts';
import { damaged } from './log-schema.ts';

const sqliteErrors = { busy: 5, corrupt: 11, notADatabase: 26, readError: 266, shortRead: 522 };

/** What SQLite reports, as an error that says what to do. Others stay as they are. */
export function storageError(name: string, error: unknown): unknown {
  if (isRxgradError(error) || !(error instanceof Error)) return error;
  const details = (problem: string, advice: string) => ({ transport: name, problem, advice });
  // A number that is too large for one: no row of ours has it.
  if ((error as NodeJS.ErrnoException).code === 'ERR_OUT_OF_RANGE') return damaged(name, error.message);
  const { errcode } = error as { errcode?: number };
  if (errcode === sqliteErrors.readError || errcode === sqliteErrors.shortRead) {
    return damaged(name, `SQLite cannot read it: ${error.message}`);
  }
  switch (codeOf(error)) {
    case sqliteErrors.busy:
      return new RxgradError('transportInterrupted', details('another process holds its write lock', 'Try again'), {
        cause: error,
      });
    case sqliteErrors.corrupt:
      return damaged(name, `SQLite cannot read it: ${error.message}`);
    case sqliteErrors.notADatabase:
      return new RxgradError(
        'transportFailed',
        details('expected an rxgrad log, got a file of another kind', 'Give it a path of its own'),
        { cause: error },
      );
    default:
      return new RxgradError('transportFailed', details(error.message, 'Check its folder, its permissions and the free space'), {
        cause: error,
      });
  }
}

/** Whether a call failed because another connection holds the write lock. */
export function isLocked(error: unknown): boolean {
  return isRxgradError(error) && error.key === 'transportInterrupted' && codeOf(error.cause) === sqliteErrors.busy;
}

/** SQLite's extended codes have the code in their lowest byte. */
function codeOf(error: unknown): number {
  return ((error as { errcode?: number } | undefined)?.errcode ?? 0) & 0xff;
}
