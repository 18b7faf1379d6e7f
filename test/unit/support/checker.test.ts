/**
 * Every check of the checker must be able to fail: one clean capture, and for each check captures in which one thing is wrong.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  assertClean,
  checkConversation,
  longestGap,
  tupleOf,
  type CheckOptions,
  type CheckReport,
} from '../../support/checker.ts';
import { MOVED, MOVE_AT, TUPLE, edit, parseTable } from './wire-table.ts';

function check(table: string, options: CheckOptions = { firstMove: MOVE_AT, moves: 1 }): CheckReport {
  return checkConversation(parseTable(table), TUPLE, options);
}

/** Only the named check complains, and says what it should. */
function finds(name: string, message: RegExp, table: string, options?: CheckOptions): void {
  const { violations } = check(table, options);
  const said = violations.map((violation) => `${violation.check}: ${violation.message}`).join('\n');
  assert.ok(
    violations.some((violation) => violation.check === name && message.test(violation.message)),
    `no '${name}' ${String(message)} in:\n${said}`,
  );
}

const upToMove = MOVED.slice(0, MOVED.indexOf('# frozen'));

test('a clean move has no violations and gives the delta of each epoch', () => {
  const report = check(MOVED);
  assertClean(report);
  assert.deepEqual(
    report.deltas.map(({ leg, delta, segments }) => ({ leg, delta, segments })),
    [
      { leg: 'a', delta: 0, segments: 1 },
      { leg: 'b', delta: (5201 - 9001) >>> 0, segments: 3 },
    ],
  );
});

test('sequence numbers that wrap make no difference', () => {
  const shift = (text: string, at: number): string => String((Number(text) + at) >>> 0);
  const wrapped = MOVED.replaceAll(
    /^( *[\d.]+ +(?:peer|a|b) +([<>]) \S+ +)(\d+) (\d+)/gm,
    (_all, head: string, dir: string, seq: string, ack: string) => {
      const [own, other] = dir === '>' ? [2 ** 32 - 5050, 2 ** 32 - 1105] : [2 ** 32 - 1105, 2 ** 32 - 5050];
      return `${head}${shift(seq, own)} ${ack === '0' ? '0' : shift(ack, other)}`;
    },
  );
  assertClean(check(wrapped));
});

test('another conversation in the same captures is left out, none at all is a violation', () => {
  const rows = parseTable(MOVED);
  const other = { ...TUPLE, peer: { address: '10.0.0.2', port: 40001 } };
  assert.deepEqual(checkConversation(rows, other, { firstMove: MOVE_AT }).violations[0]?.check, 'captured');
  assert.deepEqual(tupleOf({ peer: '10.0.0.2:40000', outside: '10.0.0.1:80', guest: '100.64.0.1:8080' }), TUPLE);
  assert.throws(
    () => tupleOf({ peer: '10.0.0.2', outside: '10.0.0.1:80', guest: '100.64.0.1:8080' }),
    /not address:port/,
  );
});

test('assertClean names the check and the segment', () => {
  const bad = check(edit(MOVED, '181  peer > .', '181  peer > R.'));
  assert.throws(() => {
    assertClean(bad);
  }, /no reset: 1\n.*RST to the peer: frame \d+ \[R\.\] seq 5252/);
});

describe('before the first move', () => {
  const name = 'same before the first move';
  const still = (from: string, to: string): string => edit(upToMove, from, to);
  test('a changed sequence number', () => {
    finds(name, /^seq 5001 became 5002/, still('3.1  peer > .  5001', '3.1  peer > .  5002'));
  });
  test('a changed ACK', () => {
    finds(name, /^ack 5201 became 5200/, still('4.1  a    < .  1101 5201', '4.1  a    < .  1101 5200'));
  });
  test('a lost option', () => {
    finds(
      name,
      /^mss 1460 became absent/,
      still('0.3  peer > S. 5000 1001 60000 0   700/100', '0.3  peer > S. 5000 1001 60000 0   700/100 bare'),
    );
  });
  test('changed timestamps', () => {
    finds(
      name,
      /^timestamps differ/,
      still('4.1  a    < .  1101 5201 500   0   103/710', '4.1  a    < .  1101 5201 500   0   103/709'),
    );
  });
  test('changed SACK blocks', () => {
    finds(name, /^SACK blocks differ/, still('500   0   103/710\n  4.1', '500   0   103/710 sack=5101-5201\n  4.1'));
  });
  test('a window that grew towards the peer, or changed towards the guest; one that shrank towards the peer is a promise kept small', () => {
    finds(name, /^window 500 became 501/, still('3.1  peer > .  5001 1101 500', '3.1  peer > .  5001 1101 501'));
    finds(name, /^window 500 became 400/, still('4.1  a    < .  1101 5201 500', '4.1  a    < .  1101 5201 400'));
    assertClean(check(still('3.1  peer > .  5001 1101 500', '3.1  peer > .  5001 1101 499'), {}));
  });
  test('a segment from nowhere and a segment that never left', () => {
    finds(name, /nothing like it came in/, `${upToMove}  5.0  peer > . 5201 1101 500 0 711/103\n`);
    finds(name, /never left/, `${upToMove}  5.0  a > . 5201 1101 500 0 711/103\n`, {});
  });
  test('a segment that is on its way when the move begins is not missed', () => {
    const ack = (time: number, side: string): string => `  ${time} ${side} > . 5201 1101 500 0 711/103\n`;
    const options = { firstMove: 1000, moves: 0 };
    assertClean(check(`${upToMove}${ack(900, 'a')}`, options));
    assertClean(check(`${upToMove}${ack(300, 'a')}${ack(1001, 'peer')}`, options));
    finds(name, /never left/, `${upToMove}${ack(300, 'a')}`, options);
  });
});

describe('handshakes', () => {
  test('a second SYN to the peer', () => {
    finds('handshakes', /a SYN to the peer after the first move/, `${MOVED}  190 peer > S 5000 0 64000 0 750/0\n`);
    finds('handshakes', /2 initial sequence numbers of the guest/, `${MOVED}  190 peer > S 9000 0 64000 0 750/0\n`);
  });
  test('no second SYN on the guest side, or too many', () => {
    finds('handshakes', /1 handshakes on the guest's side, expected 2/, upToMove);
    finds('handshakes', /2 handshakes on the guest's side, expected 3/, MOVED, { firstMove: MOVE_AT, moves: 2 });
    finds('handshakes', /2 handshakes on the guest's side, expected 1/, MOVED, {});
  });
  test('the old initial sequence number again', () => {
    finds('handshakes', /with one number/, edit(MOVED, 'b    > S  9000', 'b    > S  5000'));
  });
  test('an unanswered SYN', () => {
    finds('handshakes', /was not answered/, edit(MOVED, '121  b    < S. 1100 9001 64000 0   111/2000', ''));
  });
  test('S10: options the connection had are missing', () => {
    finds(
      'handshakes',
      /SACK permitted was agreed on, and is not offered/,
      edit(MOVED, '111/2000\n  122', '111/2000 bare\n  122'),
    );
    finds('handshakes', /timestamps was agreed on/, edit(MOVED, '111/2000\n  122', '111/2000 nots\n  122'));
  });
  test('S10: options the connection never had are offered', () => {
    const bare = MOVED.replace('100/0\n  0.1', '100/0 bare\n  0.1').replace('100/0\n  0.2', '100/0 bare\n  0.2');
    finds('handshakes', /window scale was not agreed on, and is offered/, bare);
  });
});

describe('constant delta', () => {
  const name = 'constant delta';
  test('data at another place', () => {
    finds(name, /the guest sent nothing like frame \d+/, edit(MOVED, '141  peer > .  5201', '141  peer > .  5202'));
  });
  test('two deltas in one epoch', () => {
    const more = edit(
      MOVED,
      '  160  b ',
      '  155 b > . 9051 1201 500 60 2004/120\n  156 peer > . 5252 1201 500 60 731/120\n  160  b ',
    );
    finds(name, /nothing like .* seq 5252 .* len 60/, more);
  });
  test('data that nobody sent', () => {
    finds(
      name,
      /nothing like .* len 7/,
      edit(MOVED, '  150  peer', '  145 peer > . 5251 1201 500 7 731/110\n  150  peer'),
    );
  });
  test('a FIN of the old socket', () => {
    const late = edit(MOVED, '  110  peer', '  105 a > F. 5201 1101 500 0 715/103\n  110  peer');
    assertClean(check(late));
    finds(
      name,
      /epoch 0 still speaks after epoch 1/,
      edit(late, '  160  b', '  155 peer > F. 5201 1201 500 0 731/120\n  160  b'),
    );
  });
  test('data that leaves before the guest sent it', () => {
    finds(
      name,
      /the guest sent nothing like/,
      edit(MOVED, '141  peer > .  5201 1201 500   50  730', '138  peer > .  5201 1201 500   50  730'),
    );
  });
  test('a first epoch that is not left alone', () => {
    const moved = upToMove.replaceAll(/(peer > \S+ +)5001/g, (_all, head: string) => `${head}6001`);
    finds(name, /the first epoch is moved by 1000/, moved, {});
  });
  test('after a failed move the guest may be ahead of what the peer has seen, nobody else may', () => {
    const frozen = `${upToMove}
      101 a > . 5201 1101 500 70 711/103    # lost in the freeze, and then thawed
      120 a > . 5271 1101 500 0 712/103
      121 peer > . 5271 1101 500 0 712/103
      130 a > . 5201 1101 500 70 713/103
      131 peer > . 5201 1101 500 70 713/103\n`;
    assertClean(check(frozen, { firstMove: MOVE_AT, moves: 0 }));
    finds(name, /71 beyond what was sent/, edit(frozen, '121 peer > . 5271', '121 peer > . 5272'), {
      firstMove: MOVE_AT,
    });
  });
  test('segments of one length do not lead astray: not when the first are lost, not when hardly any got through', () => {
    const lines = [MOVED.slice(0, MOVED.indexOf('  140  b'))];
    // 40 segments of 1 byte from the new socket, which has to repeat the first 20 that got lost; the last socket sends 40 more.
    for (let n = 0; n < 40; n++) lines.push(`  ${140 + n / 10} b > . ${9001 + n} 1201 500 1 2003/110`);
    for (let n = 20; n < 40; n++) lines.push(`  ${141 + n / 10} peer > . ${5201 + n} 1201 500 1 730/110`);
    for (let n = 0; n < 20; n++) lines.push(`  ${146 + n / 10} peer > . ${5201 + n} 1201 500 1 730/110`);
    lines.push('  150 peer < . 1201 5241 500 0 120/730');
    lines.push('  200 a > S 3000 0 64000 0 3000/0', '  201 a < S. 1200 3001 64000 0 120/3000');
    lines.push('  202 a > . 3001 1201 500 1 3001/120', '  203 peer > . 5241 1201 500 1 740/120');
    lines.push('  300 b > S 7000 0 64000 0 4000/0', '  301 b < S. 1200 7001 64000 0 120/4000');
    for (let n = 0; n < 40; n++) {
      lines.push(`  ${310 + n / 10} b > . ${7001 + n} 1201 500 1 4001/120`);
      lines.push(`  ${310.05 + n / 10} peer > . ${5241 + n} 1201 500 1 750/120`);
    }
    const report = check(lines.join('\n'), { firstMove: MOVE_AT, moves: 3 });
    assertClean(report);
    const deltas = [0, 5201 - 9001, 5241 - 3001, 5241 - 7001].map((delta) => delta >>> 0);
    assert.deepEqual(
      report.deltas.map(({ delta }) => delta),
      deltas,
    );
  });
  test('a bare ACK at a place of its own', () => {
    finds(name, /300 beyond what was sent/, edit(MOVED, '111  peer > .  5201', '111  peer > .  5501'));
    finds(name, /2 before what the peer has acknowledged/, edit(MOVED, '111  peer > .  5201', '111  peer > .  5199'));
    assertClean(check(edit(MOVED, '111  peer > .  5201', '111  peer > .  5200')));
  });
});

describe('hand-over', () => {
  const name = 'hand-over';
  test('a new socket that skips bytes', () => {
    const skips = edit(
      edit(MOVED, 'b    < S. 1100', 'b    < S. 1150'),
      '122  b    > .  9001 1101',
      '122  b    > .  9001 1151',
    );
    finds(name, /epoch 1 starts 50 bytes after what was delivered before/, skips);
  });
  test('a new socket that gets bytes the old one had acknowledged', () => {
    finds(
      name,
      /epoch 0 had acknowledged more than epoch 1 starts with/,
      edit(MOVED, 'b    < S. 1100', 'b    < S. 1090'),
    );
  });
  test('custody that is never played', () => {
    finds(
      name,
      /101 bytes were acknowledged to the peer and never delivered/,
      edit(MOVED, '130  b    < .  1101 9001 500   100', '130  b    < .  1101 9001 500   0'),
    );
  });
  test("the peer's FIN is delivered to the old socket and again to the new one", () => {
    const finBefore = edit(edit(MOVED, '170  peer < F.', '170  peer < .'), '171  b    < F.', '171  b    < .')
      .replace('4.0  peer < . ', '4.0  peer < F.')
      .replace('4.1  a    < . ', '4.1  a    < F.');
    const table = edit(
      finBefore,
      '# frozen',
      '  5.0 a > . 5201 1102 500 0 711/103\n  5.1 peer > . 5201 1102 500 0 711/103\n# frozen',
    )
      .split('\n')
      .filter((line) => !/^ {2}(110|111) /.test(line))
      .map((line) => line.replace(/(peer > \S+ +\d+) 120[12]/, '$1 1102').replace(/(b +> \S+ +\d+) 120[12]/, '$1 1102'))
      .map((line) => line.replace('peer > .  5201 1102 500   50  730/110', 'peer > .  5201 1102 500   50  730/103'))
      .map((line) => line.replace('b    < .  1101 9001 500   100', 'b    < F.  1101 9001 500   0'))
      .map((line) => line.replace(/(peer|b {3}) < (\S+ +)1201/, '$1 < $21102'))
      .join('\n');
    assertClean(check(table));
  });
});

describe('the wire', () => {
  test('an ACK for what had not come in', () => {
    finds(
      'honest ACKs',
      /1 bytes acknowledged that had not come in/,
      edit(MOVED, '111  peer > .  5201 1201', '111  peer > .  5201 1202'),
    );
    finds('honest ACKs', /100 bytes acknowledged/, edit(MOVED, '110  peer < .  1101', '110  peer < .  1102'));
  });
  test('an ACK over a gap that is filled later', () => {
    const gap = edit(
      MOVED,
      '  110  peer < .  1101 5201 500   100',
      '  109 peer < . 1151 5201 500 50 109/710\n  112 peer < . 1101 5201 500 50',
    );
    finds('honest ACKs', /100 bytes acknowledged/, gap);
  });
  test('a SACK block for what had not come in, and one for what had', () => {
    const sack = (block: string): string =>
      edit(
        MOVED,
        '  110  peer',
        `  108 peer < . 1151 5201 500 50 110/710\n  109 peer > . 5201 1101 500 0 719/110 sack=${block}\n  110  peer`,
      );
    finds('honest ACKs', /SACK of what had not come in/, sack('1141-1201'));
    assertClean(check(sack('1151-1201')));
  });
  test('an ACK to the guest for what it has not sent', () => {
    const name = 'ACKs within what was sent';
    finds(
      name,
      /epoch 1 is told of bytes it has not sent \(sent up to 9051\)/,
      edit(MOVED, '151  b    < .  1201 9051', '151  b    < .  1201 9052'),
    );
    finds(name, /epoch 1/, edit(MOVED, '500   100 111/2000', '500   100 111/2000 sack=9101-9151'));
  });
  test('S20: a right edge that moves back', () => {
    finds(
      'right edge',
      /moved back by 28 bytes/,
      edit(MOVED, '111  peer > .  5201 1201 500', '111  peer > .  5201 1201 499'),
    );
    finds('right edge', /not known/, MOVED.replace(/.*peer > S.*\n/, ''));
  });
  test('S18: TSval to the peer', () => {
    const name = 'timestamps to the peer';
    finds(name, /10 back, 30.000 ms behind/, edit(MOVED, '730/110', '710/110'));
    finds(name, /none, though agreed on/, edit(MOVED, '730/110', '730/110 nots'));
    finds(name, /echoes what the peer did not send/, edit(MOVED, '730/110', '730/109'));
    finds(name, /not agreed on/, edit(MOVED, '100/0\n  0.1', '100/0 nots\n  0.1'));
  });
  test('S18: TSecr to the guest', () => {
    const name = 'timestamps to the guest';
    finds(name, /epoch 1 sent 2000 to 2003, and is echoed 730/, edit(MOVED, '120/2003', '120/730'));
    finds(name, /echoed 2100/, edit(MOVED, '120/2003', '120/2100'));
    assertClean(check(edit(MOVED, '120/2003', '120/2014')));
  });
  test('a RST to the peer; one to the guest is how old sockets end', () => {
    finds('no reset', /RST to the peer/, `${MOVED}  190 peer > R. 5252 1202 0 0 750/121\n`);
    assertClean(check(`${MOVED}  190 a < R. 1101 5201 0 0 750/121\n  191 a > R 5201 0 0 0 0/0 nots\n`));
  });
  test('a wrong checksum', () => {
    finds('checksums', /TCP bad on side b/, edit(MOVED, '111/2000\n  122', '111/2000 bad\n  122'));
    assertClean(
      check(edit(MOVED, '111/2000\n  122', '111/2000 bad\n  122'), { firstMove: MOVE_AT, moves: 1, checksums: false }),
    );
  });
  test('S37: bytes or another FIN after the FIN', () => {
    finds(
      'one FIN',
      /the stream ended at 5252/,
      `${MOVED}  182 b > . 9052 1202 500 5 2012/121\n  183 peer > . 5252 1202 500 5 742/121\n`,
    );
    finds('one FIN', /the stream ended at 5252/, `${MOVED}  183 peer > F. 5250 1202 500 0 742/121\n`);
  });
});

describe('longestGap', () => {
  const rows = [0, 1, 2, 30, 31, 100, 101].map((time) => ({ time }));
  test('the longest of all, and the longest that touches a window', () => {
    assert.deepEqual(longestGap(rows), { ms: 69, from: 31, to: 100 });
    assert.deepEqual(longestGap(rows, { from: 1, to: 5 }), { ms: 28, from: 2, to: 30 });
    assert.deepEqual(longestGap(rows, { from: 10, to: 20 }), { ms: 28, from: 2, to: 30 });
  });
  test('nothing to measure', () => {
    assert.deepEqual(longestGap([]), { ms: 0, from: 0, to: 0 });
  });
});
