import { publish, type Report } from './report.ts';

const benches: Readonly<Record<string, () => Promise<{ default: () => Report | Promise<Report> }>>> = {
  step: () => import('./step.ts'),
  sparse: () => import('./sparse.ts'),
  e2e: () => import('./e2e.ts'),
  latency: () => import('./latency.ts'),
  recovery: () => import('./recovery.ts'),
  ingest: () => import('./ingest.ts'),
  swap: () => import('./swap.ts'),
  gate: () => import('./gate.ts'),
  timer: () => import('./timer.ts'),
  pool: () => import('./pool.ts'),
  http: () => import('./http.ts'),
  training: () => import('./training.ts'),
};

const names = process.argv.slice(2);
const unknown = names.filter((name) => !Object.hasOwn(benches, name));
if (unknown.length > 0) {
  console.error(`Expected benches of ${Object.keys(benches).join(', ')}, got ${unknown.join(', ')}`);
  process.exit(2);
}
for (const name of names.length > 0 ? names : Object.keys(benches)) {
  const { default: run } = await benches[name]!();
  publish(await run());
}
