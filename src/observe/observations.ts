import { Observable } from 'rxjs';
import { channels, type Observation } from './channels.ts';

/**
 * Everything that stages, scans, sinks and sessions of this process report, as they report it: the channels of
 * node:diagnostics_channel as one observable. While nobody subscribes, reporting costs nothing.
 *
 * @example
 * observations().pipe(scan(nextFigures, noFigures), auditTime(1000)).subscribe(console.log)
 */
export function observations(): Observable<Observation> {
  return new Observable((out) => {
    const pass = (observation: unknown) => out.next(observation as Observation);
    const all = Object.values(channels);
    for (const channel of all) channel.subscribe(pass);
    return () => {
      for (const channel of all) channel.unsubscribe(pass);
    };
  });
}
