/** One suite for all engines. */
import { describe } from 'node:test';
import { borders } from './borders.ts';
import { outcomes } from './outcomes.ts';
import { movingPrograms, programs } from './programs.ts';
import { moving } from './moving.ts';
import { movingTables, tables } from './tables.ts';
import { routeName, ROUTES, SUBJECTS } from './subjects.ts';

for (const subject of SUBJECTS) {
  describe(subject.name, () => {
    outcomes(subject);
    borders(subject);
    programs(subject);
    tables(subject);
  });
}

for (const route of ROUTES) {
  describe(`${routeName(route)}, moving`, () => {
    moving(route);
    movingPrograms(route);
    movingTables(route);
  });
}
