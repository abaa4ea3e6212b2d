#!/usr/bin/env node
// judge_test.js - ONNX Runtime, which shares no code with retort, loads what retort was given and what it wrote, and
// must find the same numbers.
'use strict';

const child = require('child_process');
const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');
const { cleanup, note, ok, same, test } = require('./tap');
const { idxRead, npyRead, npyWrite, npzRead } = require('./arrays');
const { BINARY, FASHION, ROOT, Server, TEACHER, distil, scratch } = require('./retort');

const N_CLOSE = 1000;  // images whose outputs are compared number by number
const TOLERANCE = 1e-4;

const folder = scratch();
const input = path.join(folder, 'test.npy');
const pixels = idxRead(path.join(FASHION, 't10k-images-idx3-ubyte.gz'));
const images = Float32Array.from(pixels.data, (v) => v / 255);
const [n, height, width] = pixels.shape;
fs.writeFileSync(input, npyWrite([n, 1, height, width], images));

async function judge(model) {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 2 });
  const outputs = [];
  const slice = 1000;
  for (let i = 0; i < n; i += slice) {
    const x = new ort.Tensor('float32', images.subarray(i * height * width, (i + slice) * height * width),
      [slice, 1, height, width]);
    const y = (await session.run({ [session.inputNames[0]]: x }))[session.outputNames[0]];
    outputs.push(...y.data);
  }
  return outputs;
}

// The outputs of `retort run`, by its own name for them.
function retort(model) {
  const out = path.join(folder, 'out.npz');
  child.execFileSync(BINARY, ['run', model, input, '-o', out]);
  const arrays = Object.values(npzRead(fs.readFileSync(out)));
  same(arrays.length, 1, 'outputs');
  same(JSON.stringify(arrays[0].shape), JSON.stringify([n, 10]), 'shape of the outputs');
  return arrays[0].data;
}

function top1(outputs) {
  return Array.from({ length: n }, (_, i) => {
    const row = outputs.slice(i * 10, i * 10 + 10);
    return row.indexOf(Math.max(...row));
  });
}

function agree(mine, theirs, name) {
  let worst = 0;
  for (let i = 0; i < N_CLOSE * 10; i++) worst = Math.max(worst, Math.abs(mine[i] - theirs[i]));
  const [a, b] = [top1(mine), top1(theirs)];
  const differ = a.filter((k, i) => k !== b[i]).length;
  note(`${name}: largest difference ${worst.toExponential(2)} on ${N_CLOSE} images, ${differ} of ${n} top-1 differ`);
  ok(worst <= TOLERANCE, `largest difference ${worst}, at most ${TOLERANCE} is allowed`);
  same(differ, 0, 'images with another top-1');
}

test('the teacher gives the same outputs in retort and in ONNX Runtime', async () => {
  agree(retort(TEACHER), await judge(TEACHER), 'teacher');
});

test('the teacher gives the same classes as in PyTorch, where it was trained', async () => {
  const expected = npyRead(fs.readFileSync(path.join(ROOT, 'examples/fashion/teacher_top1.npy'))).data;
  const found = top1(retort(TEACHER));
  same(found.filter((k, i) => k !== expected[i]).length, 0, 'images with another top-1');
});

test('a student made by retort gives the same outputs in retort and in ONNX Runtime', async () => {
  const server = await Server.start();
  cleanup(() => server.stop());
  await server.fashion(4000);
  const id = await server.submit(distil({ train: { epochs: 1 } }));
  await server.finished(id);
  const file = path.join(folder, 'student.onnx');
  fs.writeFileSync(file, await server.student(id));
  agree(retort(file), await judge(file), 'student');
});
