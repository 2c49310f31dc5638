const MOST_CHARACTERS = 200;

/** What came from outside, so that it garbles no terminal and no log, and is not too long. */
export function shownText(text: string): string {
  const clean = text.slice(0, MOST_CHARACTERS).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
  return text.length > MOST_CHARACTERS ? `${clean}…` : clean;
}
