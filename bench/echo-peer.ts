/** A peer that keeps one connection to the `stream` guest busy: eight bytes every millisecond, which the guest sends back. */
import { connect } from 'node:net';

const [host = '', port = ''] = process.argv.slice(2);
const socket = connect({ host, port: Number(port), noDelay: true });
let sent = 0;
let received = 0;
let ready = false;

socket.on('connect', () => {
  socket.write('ECHO\n');
  process.stdout.write('connected\n');
  ready = true;
});
socket.on('data', (part) => {
  // Each byte says where it belongs, so that one that is lost, repeated or out of place is seen where it happens.
  for (const byte of part) {
    if (byte !== (received >> 3) % 251) {
      process.stdout.write(`wrong byte at ${received}\n`);
      process.exit(1);
    }
    received++;
  }
});
socket.on('error', (error) => {
  process.stdout.write(`error ${error.message}\n`);
  process.exitCode = 1;
});
const timer = setInterval(() => {
  if (!ready) return;
  socket.write(Buffer.alloc(8, (sent >> 3) % 251));
  sent += 8;
}, 1);
process.stdin.on('end', () => {
  clearInterval(timer);
  socket.end();
});
socket.on('close', () => process.stdout.write(`done ${sent} ${received}\n`));
process.stdin.resume();
