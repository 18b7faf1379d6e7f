/** `make bench`: every benchmark, one after the other. */
import { blackoutBenchmark } from './blackout.ts';
import { pathBenchmarks } from './path.ts';
import { resumedBenchmark } from './resumed.ts';
import { slowdownBenchmark } from './slowdown.ts';

await pathBenchmarks();
await blackoutBenchmark();
await slowdownBenchmark();
await resumedBenchmark();
