/** One conversation of the simulation, from connect to the last FIN. */
import assert from 'node:assert/strict';
import { scenarioOf } from './scenario.ts';
import { World } from './world.ts';

/** Simulated milliseconds after which a conversation counts as stuck. */
const LIMIT = 1_200_000;

/** Runs the conversation of a seed to its end. Throws, with all there is to know, when it goes wrong. */
export function converse(seed: number): World {
  const scenario = scenarioOf(seed);
  const world = new World(scenario);
  const { clock, random } = world;
  const begin = clock.now;
  const act = (): void => {
    world.act();
    clock.after(random.next() * 10, act);
  };
  const tick = (): void => {
    world.tick();
    clock.after(10, tick);
  };
  let moves = scenario.moves;
  const move = (): void => {
    if (moves-- > 0 && !world.done) world.move(() => clock.after(random.next() * 2 * scenario.pause, move));
  };
  act();
  tick();
  clock.after(random.next() * 2 * scenario.pause, move);
  try {
    while (!world.done) {
      clock.step();
      assert.ok(clock.now - begin < LIMIT, `stuck: ${world.progress()}`);
      assert.ok(!world.peer.reset && world.socket?.reset !== true, 'reset');
    }
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    assert.fail(`seed ${seed}: ${text}\n${JSON.stringify(scenario)}\n${world.progress()}\n${world.log.join('\n')}`);
  }
  return world;
}
