import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { schedulePages } from '../../docs/generate-schedules.ts';
import { scheduleTypes } from '../../src/schedules/from-config.ts';

const docs = new URL('../../docs/', import.meta.url);
const pages = Object.entries(schedulePages());

it.each(pages)('docs/%s is as the schedules are', (path, text) => {
  expect(readFileSync(new URL(path, docs), 'utf8')).toBe(text);
});

it('has a section and a picture for every schedule, and no others', () => {
  const [[, page]] = pages as [[string, string]];
  expect([...page.matchAll(/^## (\w+)$/gm)].map(([, type]) => type)).toEqual(Object.keys(scheduleTypes));
  const pictures = [...page.matchAll(/\]\(schedules\/(.+)\)/g)].map(([, file]) => file);
  expect(readdirSync(new URL('schedules/', docs)).toSorted()).toEqual(pictures.toSorted());
});

it('draws rates as they are: each held until the next tick, from 0 to the highest', () => {
  const picture = Object.fromEntries(pages)['schedules/constant-lr.svg']!;
  const [, path] = /class="rate" d="([^"]+)"/.exec(picture)!;
  // 120 ticks over 572 px from x = 56; 0.025 then 0.1, over 168 px above y = 180.
  expect(path).toMatch(/^M56 138V138H60\.8V138/);
  expect(path).toContain('V138H246.7V12H251.4');
  expect(path).toMatch(/V12H628$/);
});
