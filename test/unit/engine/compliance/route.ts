/** What every route has to hold. */
import { describe } from 'node:test';
import { moving } from './moving.ts';
import { movingPrograms } from './programs.ts';
import { type Route, routeName } from './subjects.ts';
import { movingTables } from './tables.ts';

export function holdsOn(route: Route): void {
  describe(`${routeName(route)}, moving`, () => {
    moving(route);
    movingPrograms(route);
    movingTables(route);
  });
}
