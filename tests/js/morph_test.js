#!/usr/bin/env node
// morph_test.js - method morph over HTTP: ONNX Runtime finds that child and parent compute the same function, whatever
// the report says.
'use strict';

const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');
const { cleanup, note, ok, same, test } = require('./tap');
const { idxRead } = require('./arrays');
const { FASHION, Server, TEACHER } = require('./retort');

const IMAGES = 200;
const TOLERANCE = 2e-5; // of the largest output: single precision through the whole network
const pixels = idxRead(path.join(FASHION, 't10k-images-idx3-ubyte.gz'));
const x = Float32Array.from(pixels.data.subarray(0, IMAGES * 784), (v) => v / 255);
let server;

async function outputs(model) {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 2 });
  const feed = { [session.inputNames[0]]: new ort.Tensor('float32', x, [IMAGES, 1, 28, 28]) };
  return (await session.run(feed))[session.outputNames[0]].data;
}

async function morph(spec) {
  const id = await server.submit({ method: 'morph', model: 'teacher', output: 'child', ...spec });
  const job = await server.finished(id);
  return { job, child: await outputs(await server.student(id)) };
}

const largest = (list) => list.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

const CHAINS = [
  [{ op: 'widen', factor: 1.5 }],
  [{ op: 'widen', factor: 1.3, mode: 'random-fanin' }, { op: 'widen', factor: 1.2, mode: 'uneven' }],
  [{ op: 'deepen', layer: '*conv1*' }, { op: 'kernel', layer: '*conv2*', size: 5 }],
  [{ op: 'deepen', layer: '*conv2*', mode: 'netmorph' }, { op: 'widen', factor: 1.1 }],
  [{ op: 'module', layer: '*', recipe: '1c1' }],
];

test('a server, and the teacher', async () => {
  server = await Server.start();
  cleanup(() => server.stop());
  await server.fashion(1000);
  ok(true, 'ready');
});

for (const steps of CHAINS) {
  const words = steps.map((s) => `${s.op} ${s.mode || s.recipe || ''}`.trim()).join(', ');
  test(`${words}: the same function in ONNX Runtime`, async () => {
    const parent = await outputs(fs.readFileSync(TEACHER));
    const { job, child } = await morph({ steps });
    const { proof } = job.result.report;
    const apart = largest(parent.map((v, i) => v - child[i])) / largest(parent);
    note(`${words}: ${apart.toExponential(1)} apart; reported ${proof.float64.relative.toExponential(1)} in double`);
    ok(apart < TOLERANCE, `ONNX Runtime finds ${apart}`);
    same(`${proof.exact} ${proof.trainable}`, 'true true', 'exact and trainable, says the report');
    ok(proof.parameters.after > proof.parameters.before, 'it did not grow');
    same(job.result.metrics.parameters, proof.parameters.after, 'parameters of the metrics and of the proof');
  });
}

test('a dry run tells the size, and what cannot be done', async () => {
  const spec = { method: 'morph', model: 'teacher', auto: { parameters: 1e6 }, output: 'child' };
  const { json } = await server.must(200, server.post('/v1/jobs?dry_run=1', spec));
  ok(Math.abs(json.student.parameters / 1e6 - 1) < 0.05, `${json.student.parameters} parameters`);
  const wrong = { ...spec, auto: undefined, steps: [{ op: 'widen', layer: '/stage1/conv1/Konv', to: 60 }] };
  const refused = (await server.must(422, server.post('/v1/jobs?dry_run=1', wrong))).json;
  same(refused.errors[0].pointer, '/steps/0', 'pointer');
  ok(/nearest is '\/stage1\/conv1\/Conv'/.test(refused.detail), refused.detail);
});

test('a child trains on', async () => {
  const { job } = await morph({ steps: [{ op: 'widen', factor: 1.2 }], dataset: { ref: 'fashion', scale: 255 },
    train: { epochs: 1, learning_rate: 1e-4 } });
  const { restart, proof } = job.result.report;
  ok(proof.exact && restart.accuracy_before > 0.8, `accuracy before training on: ${restart.accuracy_before}`);
  ok(job.result.metrics.accuracy > restart.accuracy_before - 0.1, `and after: ${job.result.metrics.accuracy}`);
});
