/** One suite for all engines. */
import { describe } from 'node:test';
import { borders } from './borders.ts';
import { outcomes } from './outcomes.ts';
import { programs } from './programs.ts';
import { SUBJECTS } from './subjects.ts';

for (const subject of SUBJECTS) {
  describe(subject.name, () => {
    outcomes(subject);
    borders(subject);
    programs(subject);
  });
}
