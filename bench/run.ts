/** `make bench`: every benchmark, one after the other, and then the table in the documents. */
import { blackoutBenchmark } from './blackout.ts';
import { checkpointBenchmark } from './checkpoint.ts';
import { QUICK } from './harness.ts';
import { instrumentBenchmark } from './instrument.ts';
import { pathBenchmarks } from './path.ts';
import { policiesBenchmark } from './policies.ts';
import { resumedBenchmark } from './resumed.ts';
import { slowdownBenchmark } from './slowdown.ts';
import { slowdownOnWamr } from './slowdown-wamr.ts';
import { snapshotBenchmark } from './snapshot.ts';
import { stopBenchmark } from './stop.ts';
import { writeTables } from './table.ts';

await pathBenchmarks();
await blackoutBenchmark();
await slowdownBenchmark();
await slowdownOnWamr();
await resumedBenchmark();
await instrumentBenchmark();
await stopBenchmark();
await policiesBenchmark();
await checkpointBenchmark();
await snapshotBenchmark();
if (!QUICK) writeTables();
