/** `make bench`: every benchmark, one after the other. */
import { pathBenchmarks } from './path.ts';

await pathBenchmarks();
