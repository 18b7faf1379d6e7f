/** Guests that can be stopped before every instruction, on every engine and between them. */
import { setFlagsFromString } from 'node:v8';
import { EVERYWHERE } from './subjects.ts';
import { holdsOn } from './route.ts';

// printf with a point at each instruction takes V8's optimising compiler ten seconds, on a thread that the next guest waits for.
setFlagsFromString('--wasm-tiering-budget=2000000000');

for (const route of EVERYWHERE) holdsOn(route);
