/** Values of flags of both programs. */

/** A path of a file or socket: an empty one, of a variable that is not set, is none. */
export function parsePath(text: string): string {
  if (text === '') throw new Error('a path is not empty');
  return text;
}
