#!/usr/bin/env node
// canonical_test.js - what retort writes of a network is the network: for every case that conformance_test passes, ONNX
// Runtime finds the same outputs before and after, all names are there, and ONNX's own checker accepts the file.
'use strict';

const child = require('child_process');
const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');
const { note, ok, same, test } = require('./tap');
const { BINARY, ROOT, scratch } = require('./retort');
const { tensorRead } = require('./onnx');

const RELATIVE = 1e-5, ABSOLUTE = 1e-6;
const FEWEST = 500; // cases; there are more, and none must be lost unseen

const CONFORMANCE = path.join(path.dirname(fs.realpathSync(BINARY)), 'tests/engine/conformance_test');
const folder = scratch();
let cases = [];

const tensors = (data, kind) => fs.readdirSync(data).filter((f) => f.startsWith(kind))
  .sort((a, b) => parseInt(a.slice(kind.length), 10) - parseInt(b.slice(kind.length), 10))
  .map((f) => tensorRead(fs.readFileSync(path.join(data, f))));

// Outputs by name; the inputs are found by name, else by place among those that the network has.
async function run(file, inputs) {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, logSeverityLevel: 4 });
  try {
    const feeds = {};
    session.inputNames.forEach((name, i) => {
      const t = inputs.find((x) => x && x.name === name) || inputs[i];
      feeds[name] = new ort.Tensor(t.type, t.data, t.shape);
    });
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

function close(a, b, relative = RELATIVE, absolute = ABSOLUTE) {
  const [x, y] = [Number(a), Number(b)];
  return Object.is(x, y) || x === y || Math.abs(x - y) <= absolute + relative * Math.abs(x);
}

// What ONNX Runtime does not take as it was, it may take as retort writes it; then the case's outputs are the truth.
async function compareToCase(at, inputs) {
  const truth = tensors(path.join(at, 'data'), 'output_');
  const after = Object.values(await run(path.join(at, 'after.onnx'), inputs));
  truth.forEach((t, k) => {
    const wrong = t.data.findIndex((v, i) => !close(v, after[k].data[i], 1e-3, 1e-5));
    ok(wrong < 0, `output ${k}[${wrong}] is ${after[k].data[wrong]}, should be ${t.data[wrong]}`);
  });
}

function compare(before, after) {
  same(JSON.stringify(Object.keys(after)), JSON.stringify(Object.keys(before)), 'outputs');
  for (const name of Object.keys(before)) {
    const [b, a] = [before[name], after[name]];
    same(`${a.type} [${a.dims}]`, `${b.type} [${b.dims}]`, `'${name}'`);
    const wrong = b.data.findIndex((v, i) => !close(v, a.data[i]));
    ok(wrong < 0, `'${name}'[${wrong}] is ${a.data[wrong]}, was ${b.data[wrong]}`);
  }
}

// What `body` says about every case; the test fails with all of it.
async function walk(body) {
  const complaints = [];
  for (const c of cases) {
    try { await body(c, path.join(folder, c)); } catch (e) { complaints.push(`${c}: ${e.message.split('\n')[0]}`); }
  }
  complaints.forEach((c) => note(c.slice(0, 300)));
  same(complaints.length, 0, `of ${cases.length} cases, those that failed`);
}

test('the cases that pass are written anew', () => {
  const { status, stdout } = child.spawnSync(CONFORMANCE, ['agree'],
    { cwd: ROOT, env: { ...process.env, CONFORMANCE_EXPORT: folder }, encoding: 'utf8', maxBuffer: 1 << 26 });
  cases = fs.readdirSync(folder).sort();
  note(`${cases.length} cases`);
  ok(status === 0, stdout);
  ok(cases.length >= FEWEST, `${cases.length} cases, expected at least ${FEWEST}`);
});

test('ONNX Runtime finds the same outputs before and after', async () => {
  let compared = 0, judged = 0;
  const refused = {};
  await walk(async (c, at) => {
    const inputs = tensors(path.join(at, 'data'), 'input_');
    let before;
    try { before = await run(path.join(at, 'before.onnx'), inputs); } catch (e) {
      const why = e.message.replace(/^Load model from \S+ failed:/, '').replace(/ with name.*/s, '').slice(0, 80);
      if (await compareToCase(at, inputs).then(() => true, (later) => {
        if (/Could not find an implementation|Unsupported data type/.test(later.message)) return false;
        throw later;
      })) judged++;
      else refused[why] = (refused[why] || 0) + 1;
      return;
    }
    compare(before, await run(path.join(at, 'after.onnx'), inputs));
    compared++;
  });
  note(`${compared} compared; ${judged} it takes only as retort writes them, and finds the case's outputs;`);
  note(`${cases.length - compared - judged} it takes neither before nor after:`);
  Object.entries(refused).forEach(([why, n]) => note(`  ${n}: ${why}`));
  ok(compared > 0.9 * cases.length, `only ${compared} could be compared`);
});

test('names stay, and the checker of ONNX accepts what is written', async () => {
  const out = child.execFileSync('/usr/bin/python3', [path.join(__dirname, 'canonical.py'), folder],
    { encoding: 'utf8', maxBuffer: 1 << 26 });
  const answers = new Map(out.trim().split('\n').map((line) => JSON.parse(line)).map((a) => [a.case, a]));
  let unsound = 0;
  await walk((c) => {
    const a = answers.get(c);
    same(a.lost.join(', '), '', 'lost');
    if (a.before) unsound++;
    else same(a.after, '', 'the checker');
  });
  note(`${cases.length - unsound} accepted by the checker (Debian python3-onnx); it refuses the original of ${unsound}`);
});
