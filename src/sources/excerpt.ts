/** The beginning of something that came from outside, with what could garble a terminal or a log taken out. */
export function excerpt(text: string): string {
  const clean = text.slice(0, 60).replace(/[^\x20-\x7e]/g, '?');
  return text.length > 60 ? `"${clean}…"` : `"${clean}"`;
}
