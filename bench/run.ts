/** `make bench`: every benchmark, one after the other. */
import { blackoutBenchmark } from './blackout.ts';
import { pathBenchmarks } from './path.ts';

await pathBenchmarks();
await blackoutBenchmark();
