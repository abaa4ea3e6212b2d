#!/usr/bin/env node
// reproduce_slow.js - bench/reproduce.js runs to its end: every experiment over the API, on a few images. What comes out says
// nothing at this size; that all of it can be asked for, and that exact morphs are proved exact, does.
'use strict';

const child = require('child_process');
const path = require('path');
const { test, ok, note } = require('../js/tap');
const { BINARY, ROOT } = require('../js/retort');

test('the four experiments, one seed', () => {
  const r = child.spawnSync(process.execPath, [path.join(ROOT, 'bench/reproduce.js'), BINARY, '--quick', '--no-write'],
    { encoding: 'utf8', maxBuffer: 1 << 26 });
  ok(r.status === 0, `exit status ${r.status}: ${r.stderr.slice(-2000)}`);
  for (const title of ['1. Net2Net', '2. Network Morphism', '3. Modularized Morphing', '4. There and back'])
    ok(r.stdout.includes(`## ${title}`), `no part "${title}"`);
  ok(!/NaN|undefined|Infinity|\[object/.test(r.stdout), `a number is missing: ${/.*(NaN|undefined|Infinity|\[object).*/.exec(r.stdout)?.[0]}`);
  const rows = r.stdout.split('\n').filter((line) => /^\| (depth|width|kernel|subnet|all|morph_\S+) \|/.test(line));
  ok(rows.length === 18, `${rows.length} morphs, not 18`);
  for (const row of rows) ok(/ \| yes \| /.test(row), `not proved equal: ${row}`);
  note(r.stderr.match(/^part .*$/gm).join(', '));
});
