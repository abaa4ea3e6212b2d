// tap.js - tests that print TAP: test(name, body) registers, the bodies run one after the other when the file is done.
'use strict';

const tests = [];
const cleanups = [];
let checks = 0;

function test(name, body) { tests.push({ name, body }); }

// Runs after the last test, whatever happened, and on Ctrl-C.
function cleanup(fn) { cleanups.push(fn); }

function ok(condition, what) {
  checks++;
  if (!condition) throw new Error(what);
}

function same(found, expected, what) {
  ok(found === expected, `${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

// A figure for the reader, beside the verdict.
function note(text) { console.log(`# ${text}`); }

async function tidy() {
  for (const fn of cleanups.splice(0).reverse()) {
    try { await fn(); } catch (e) { note(`while tidying up: ${e.message}`); }
  }
}

async function run() {
  const only = process.argv[2];
  const chosen = tests.filter((t) => !only || t.name.includes(only));
  console.log(`1..${chosen.length}`);
  let failed = 0;
  for (const [i, t] of chosen.entries()) {
    const before = checks;
    try {
      await t.body();
      if (checks === before) throw new Error('checked nothing');
      console.log(`ok ${i + 1} - ${t.name}`);
    } catch (e) {
      failed++;
      console.log(`not ok ${i + 1} - ${t.name}`);
      note(String(e.stack || e).split('\n').slice(0, 6).join('\n# '));
    }
  }
  await tidy();
  process.exitCode = failed ? 1 : 0;
  if (!chosen.length) process.exitCode = 1;
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, async () => { await tidy(); process.exit(1); });
}
setImmediate(run);

module.exports = { test, cleanup, ok, same, note };
