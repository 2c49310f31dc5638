import { defer, fromEvent, type Observable, of } from 'rxjs';

/** Tells that a run was ended: at once where it was before anybody asked, which an event of the signal would not. */
export function ended(signal: AbortSignal): Observable<unknown> {
  return defer(() => (signal.aborted ? of(null) : fromEvent(signal, 'abort')));
}
