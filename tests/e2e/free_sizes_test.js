#!/usr/bin/env node
// free_sizes_test.js - networks that leave the size of their inputs open, as PyTorch's dynamic_axes writes them: stored
// as they are, and of the size of the data they are put to work on.
'use strict';

const child = require('child_process');
const fs = require('fs');
const path = require('path');
const { cleanup, ok, same, test } = require('../js/tap');
const { npyRead, npyWrite, npzRead } = require('../js/arrays');
const { model } = require('../js/onnx');
const { BINARY, ROOT, Server, scratch } = require('../js/retort');

let server;
let seed = 1;
const random = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648 - 0.5; };
const weights = (name, shape) => ({ name, shape, data: Array.from({ length: shape.reduce((a, b) => a * b) }, random) });

// Images of one channel and any size to four answers.
const convolutional = (height, width) => model({
  nodes: [
    { op: 'Conv', name: 'conv', inputs: ['image', 'k', 'b'], outputs: ['c'], attributes: { pads: [1, 1, 1, 1] } },
    { op: 'Relu', name: 'act', inputs: ['c'], outputs: ['r'] },
    { op: 'GlobalAveragePool', name: 'pool', inputs: ['r'], outputs: ['p'] },
    { op: 'Flatten', name: 'flat', inputs: ['p'], outputs: ['f'] },
    { op: 'Gemm', name: 'fc', inputs: ['f', 'w', 'v'], outputs: ['logits'], attributes: { transB: 1 } },
  ],
  tensors: [weights('k', [8, 1, 3, 3]), weights('b', [8]), weights('w', [4, 8]), weights('v', [4])],
  inputs: [{ name: 'image', shape: ['batch', 1, height, width] }],
  outputs: [{ name: 'logits', shape: ['batch', 4] }],
});

const images = (n, h, w) => npyWrite([n, h, w], Uint8Array.from({ length: n * h * w }, () => 256 * (random() + 0.5)));
const labels = (n) => npyWrite([n], Uint8Array.from({ length: n }, (_, i) => i % 4));

async function dataset(name, n, h, w) {
  await server.must(201, server.put(`/v1/datasets/${name}/inputs`, images(n, h, w)));
  await server.must(201, server.put(`/v1/datasets/${name}/labels`, labels(n)));
}

test('such a network is stored, and what is open is shown as open', async () => {
  server = await Server.start();
  cleanup(() => server.stop());
  await dataset('square', 64, 12, 12);
  await dataset('wide', 64, 9, 14);
  await dataset('small', 64, 1, 1);
  await server.must(201, server.put('/v1/models/equal/onnx', convolutional('side', 'side')));
  const bytes = convolutional('height', 'width');
  const v = (await server.must(201, server.put('/v1/models/any/onnx', bytes))).json;
  same(JSON.stringify(v.inputs[0].shape), '["N",1,"height","width"]', 'input');
  same(v.outputs[0].shape, null, 'output');
  same(v.macs, null, 'multiply-adds');
  same(v.parameters, 8 * 9 + 8 + 32 + 4, 'parameters');
  const item = (await server.get('/v1/models')).json.items.find((m) => m.name === 'any');
  same(item.macs, null, 'multiply-adds in the list');
  const graph = (await server.must(200, server.get('/v1/models/any/graph'))).json;
  same(graph.nodes.length, 5, 'nodes');
  same(graph.nodes[0].shapes[0].shape, null, 'shape of what a node makes');
  ok((await server.get('/v1/models/any/onnx')).body.equals(bytes), 'the bytes changed');
});

test('it is measured on images of any size', async () => {
  for (const name of ['square', 'wide', 'small']) {
    const id = await server.submit({ method: 'evaluate', model: 'any', dataset: { ref: name, scale: 255 } });
    const job = await server.finished(id);
    ok(job.result.metrics.accuracy >= 0 && job.result.metrics.macs > 0, JSON.stringify(job.result.metrics));
  }
});

test('it teaches, and its student has the size of the data', async () => {
  const spec = { method: 'distill', teacher: 'any', dataset: { ref: 'wide', scale: 255 }, student: { width: 0.5 },
    train: { epochs: 2 }, output: 'student' };
  const dry = (await server.must(200, server.post('/v1/jobs?dry_run=1', spec))).json;
  same(dry.teacher.macs, null, 'multiply-adds of the teacher, as stored');
  same(dry.student.macs, 4 * 9 * 9 * 14 + 16, 'multiply-adds of the student');
  const job = await server.finished(await server.submit(spec));
  same(job.result.teacher_metrics.macs, 8 * 9 * 9 * 14 + 32, 'multiply-adds of the teacher, on this data');
  const student = (await server.get('/v1/models/student')).json;
  same(JSON.stringify(student.inputs[0].shape), '["N",1,9,14]', 'input of the student');
  same(JSON.stringify(student.outputs[0].shape), '["N",4]', 'output of the student');
});

test('it learns further, and stands for a student', async () => {
  await server.finished(await server.submit({ method: 'train', model: 'any', dataset: 'square', train: { epochs: 1 } }));
  const job = await server.finished(await server.submit({ method: 'distill', teacher: 'any', dataset: 'square',
    student: { model: 'equal' }, train: { epochs: 1 } }));
  ok(job.result.metrics.agreement >= 0, 'agreement');
});

async function refused(spec, ...words) {
  const r = await server.post('/v1/jobs', spec);
  same(r.status, 422, `status of ${r.body}`);
  same(r.json.errors[0].pointer, '/dataset', 'pointer');
  for (const word of words) ok(r.json.detail.includes(word), `'${word}' is not in ${r.json.detail}`);
}

test('data that does not fit is refused with both shapes and the names', async () => {
  await server.must(201, server.put('/v1/datasets/flat/inputs', npyWrite([8, 5], new Uint8Array(40))));
  await server.must(201, server.put('/v1/datasets/colour/inputs', npyWrite([2, 3, 4, 4], new Uint8Array(96))));
  await refused({ method: 'evaluate', model: 'equal', dataset: 'wide' }, "'side'", 'must be equal', '9 and 14');
  await refused({ method: 'evaluate', model: 'any', dataset: 'flat' }, '[N,1,height,width]', '[8,5]');
  await refused({ method: 'distill', teacher: 'any', dataset: 'colour', student: { width: 0.5 } }, '[N,1,height,width]',
    '[2,3,4,4]');
});

const run = (...args) => child.spawnSync(BINARY, ['run', ...args], { encoding: 'utf8' });

test('retort run takes the sizes from its inputs', async () => {
  const folder = scratch();
  const file = (name, bytes) => { fs.writeFileSync(path.join(folder, name), bytes); return path.join(folder, name); };
  const any = file('any.onnx', convolutional('height', 'width'));
  for (const [h, w] of [[5, 6], [12, 3]]) {
    const out = path.join(folder, 'out.npz');
    const r = run(any, file('x.npy', images(3, h, w)), '-o', out);
    same(r.status, 0, `status of ${r.stderr}`);
    same(npzRead(fs.readFileSync(out)).logits.shape.join(), '3,4', 'shape of the answers');
  }
  const r = run(file('equal.onnx', convolutional('side', 'side')), file('x.npy', images(3, 5, 6)));
  same(r.status, 1, 'status');
  ok(/'side' and must be equal, but .*x\.npy of shape \[3,1,5,6\] has 5 and 6/.test(r.stderr), r.stderr);
});

// See tests/fixtures/make_free.py.
test('what PyTorch exported with dynamic_axes answers like PyTorch', async () => {
  const folder = path.join(ROOT, 'tests/fixtures/free');
  const out = path.join(scratch(), 'out.npz');
  const inputs = fs.readdirSync(folder).filter((name) => name.endsWith('_input.npy'));
  same(inputs.length, 8, 'inputs');
  for (const name of inputs) {
    const r = run(path.join(folder, `${name.split('_')[0]}.onnx`), path.join(folder, name), '-o', out);
    same(r.status, 0, `${name}: status of ${r.stderr}`);
    const found = npzRead(fs.readFileSync(out)).output;
    const wanted = npyRead(fs.readFileSync(path.join(folder, name.replace('input', 'output'))));
    same(found.shape.join(), wanted.shape.join(), `${name}: shape`);
    const worst = wanted.data.reduce((most, v, i) => Math.max(most, Math.abs(v - found.data[i])), 0);
    ok(worst < 1e-5, `${name}: differs by ${worst}`);
  }
});
