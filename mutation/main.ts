import { globSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Stryker } from '@stryker-mutator/core';
import { type Folder, folders } from './folders.ts';
import { storeScore, threshold } from './scores.ts';
import { type Mutant, scored } from './survivors.ts';

/**
 * Changes the code of each named folder in one place after the other and runs its unit tests: what no test notices is listed.
 * Fails where a folder's share of noticed mutants is below the threshold, and stores the scores of folders in scores.json.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string', default: '1' },
    force: { type: 'boolean', default: false },
    concurrency: { type: 'string', default: '2' },
  },
});
/** Lines that are mutated together where a sample is asked for. */
const STRETCH = 6;
const share = Number(values.sample);

for (const named of positionals.length > 0 ? positionals : Object.keys(folders)) {
  const [name, ...file] = named.split('/');
  const folder = folders[name!];
  if (folder === undefined)
    throw new Error(`No mutants are made in "${named}": name one of ${Object.keys(folders).join(', ')}, or a file in it.`);
  const began = performance.now();
  const found = scored(await mutants(name!, folder, file.length > 0 ? [`src/${named}`] : folder.sources));
  for (const { fileName, location, mutatorName, replacement } of found.survived) {
    console.log(
      `survived: ${fileName}:${location.start.line}:${location.start.column} ${mutatorName} → ${replacement.replaceAll(/\s+/g, ' ')}`,
    );
  }
  console.log(
    `${named}: ${found.noticed} of ${found.covered} covered mutants noticed, ${found.equivalent} more equal the original`,
  );
  if (file.length > 0) continue;
  storeScore(name!, found, share, Math.round((performance.now() - began) / 1000));
  if (found.noticed < threshold * found.covered) process.exitCode = 1;
}

async function mutants(name: string, { tests }: Folder, sources: readonly string[]): Promise<Mutant[]> {
  process.env.RXGRAD_MUTATION_TESTS = tests.join(',');
  const results = await new Stryker({
    mutate: sources.flatMap((source) => globSync(source)).flatMap((file) => (share > 1 ? sampled(file) : [file])),
    testRunner: 'vitest',
    plugins: ['@stryker-mutator/vitest-runner'],
    vitest: { configFile: 'mutation/vitest.config.ts', related: false, pool: 'forks' },
    coverageAnalysis: 'perTest',
    // Module scope runs once, before any test: each such mutant would cost a run of all tests.
    ignoreStatic: true,
    // Wording and names of what is thrown: tests look at codes.
    mutator: { excludedMutations: ['StringLiteral'] },
    disableTypeChecks: false,
    // Stryker would rewrite it with the compiler's own interface, which TypeScript 7 has no longer; no test needs it.
    tsconfigFile: 'no-tsconfig.json',
    ignorePatterns: ['dist', 'docs', 'bench/results', 'docker', 'reports', '.rxgrad*'],
    tempDirName: '.stryker-tmp',
    concurrency: Number(values.concurrency),
    timeoutMS: 15_000,
    incremental: true,
    incrementalFile: `reports/mutation/${name}${share > 1 ? `-${share}` : ''}.json`,
    force: values.force,
    reporters: ['progress-append-only'],
    allowEmpty: true,
  }).runMutationTest();
  return results as Mutant[];
}

/** One stretch of lines in every so many of a file: always the same ones. */
function sampled(file: string): string[] {
  const lines = readFileSync(file, 'utf8').split('\n').length;
  const from = STRETCH * ([...file].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % share);
  const stretches: string[] = [];
  for (let line = from + 1; line <= lines; line += STRETCH * share) stretches.push(`${file}:${line}-${line + STRETCH - 1}`);
  return stretches;
}
