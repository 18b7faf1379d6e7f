/** `make bench`: every benchmark, one after the other, and then the table in the documents. */
import { blackoutBenchmark } from './blackout.ts';
import { QUICK } from './harness.ts';
import { pathBenchmarks } from './path.ts';
import { resumedBenchmark } from './resumed.ts';
import { slowdownBenchmark } from './slowdown.ts';
import { writeTables } from './table.ts';

await pathBenchmarks();
await blackoutBenchmark();
await slowdownBenchmark();
await resumedBenchmark();
if (!QUICK) writeTables();
