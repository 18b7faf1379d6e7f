/** Opens the TUN devices that its arguments name, keeps them, and prints for each the error as JSON, or null. */
import { KedgeError } from '../../../src/errors.ts';
import { native } from '../../../src/native.ts';

export interface Opened {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
}

function open(name: string): Opened | null {
  try {
    native.tunOpen(name);
    return null;
  } catch (error) {
    if (!(error instanceof KedgeError)) throw error;
    return { code: error.code, message: error.message, hint: error.hint };
  }
}

process.stdout.write(JSON.stringify(process.argv.slice(2).map(open)));
