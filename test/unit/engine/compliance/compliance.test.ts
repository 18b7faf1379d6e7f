/** One suite for all engines. */
import { describe } from 'node:test';
import { borders } from './borders.ts';
import { outcomes } from './outcomes.ts';
import { programs } from './programs.ts';
import { tables } from './tables.ts';
import { ROUTES, SUBJECTS } from './subjects.ts';
import { holdsOn } from './route.ts';

for (const subject of SUBJECTS) {
  describe(subject.name, () => {
    outcomes(subject);
    borders(subject);
    programs(subject);
    tables(subject);
  });
}

for (const route of ROUTES) holdsOn(route);
