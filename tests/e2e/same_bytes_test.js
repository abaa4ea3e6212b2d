#!/usr/bin/env node
// same_bytes_test.js - the same job and seed end in the same student, bit for bit: on another day, and with another
// number of threads.
'use strict';

const { cleanup, note, ok, same, test } = require('../js/tap');
const { Server, distil } = require('../js/retort');

const job = distil({ train: { epochs: 2, seed: 7 } });

async function students(threads, specs) {
  const server = await Server.start({ args: ['--threads', String(threads)] });
  cleanup(() => server.stop());
  await server.fashion(3000);
  const found = [];
  for (const spec of specs) {
    const id = await server.submit(spec);
    const done = await server.finished(id);
    found.push({ bytes: await server.student(id), digest: done.result.digest });
  }
  await server.stop();
  return found;
}

let first;

test('the same job twice gives the same bytes, another seed gives others', async () => {
  const [a, b, c] = await students(2, [job, job, { ...job, train: { epochs: 2, seed: 8 } }]);
  first = a;
  note(`student of ${a.bytes.length} bytes, ${a.digest}`);
  ok(a.bytes.equals(b.bytes), 'the second run ended in other bytes');
  same(a.digest, b.digest, 'digest');
  ok(!a.bytes.equals(c.bytes), 'another seed ended in the same bytes');
});

test('one thread and two give the same bytes', async () => {
  const [a] = await students(1, [job]);
  ok(first && a.bytes.equals(first.bytes), 'one thread ended in other bytes than two');
});
