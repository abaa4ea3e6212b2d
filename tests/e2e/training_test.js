#!/usr/bin/env node
// training_test.js - what training leaves beside its result, to go on from: told by the version, gone with it.
'use strict';

const { cleanup, note, ok, same, test } = require('../js/tap');
const { Server } = require('../js/retort');

const SAMPLES = 600, BATCH = 50, STEPS = 24;
const layers = [{ conv: 8, kernel: 3 }, 'batchnorm', 'relu', { maxpool: 4 }, { dense: 10 }];
const job = (output, train) => ({
  method: 'train', student: { layers }, dataset: { ref: 'fashion', scale: 255 }, output,
  train: { steps: STEPS, batch: BATCH, ...train },
});
let server;

async function trained(output, train) {
  await server.finished(await server.submit(job(output, train)));
  return (await server.must(200, server.get(`/v1/models/${output}`))).json;
}

// Bytes of all numbers that training changes.
async function weight_bytes(model) {
  const { body } = await server.must(200, server.get(`/v1/models/${model}/safetensors`));
  return body.length;
}

test('a version tells what training left', async () => {
  server = await Server.start();
  cleanup(() => server.stop());
  await server.fashion(SAMPLES);
  for (const [optimizer, copies] of [['adam', 2], ['sgd', 1], ['rmsprop', 2]]) {
    const v = await trained(optimizer, { optimizer, learning_rate: 0.01, schedule: { step: [1], gamma: 0.5 } });
    note(`${optimizer}: ${JSON.stringify(v.training)}, ${v.bytes} bytes of ONNX`);
    same(v.training.optimizer, optimizer, 'optimizer');
    same(v.training.steps, STEPS, 'steps');
    same(v.training.learning_rate, 0.005, 'the rate of the last step');
    const weights = await weight_bytes(optimizer);
    ok(v.training.bytes > copies * 0.8 * weights - 2000 && v.training.bytes < copies * weights + 2000,
      `${v.training.bytes} bytes beside ${weights} of weights`);
  }
  const at = (await server.must(200, server.get('/v1/models/adam@1'))).json;
  same(at.training.steps, STEPS, 'of the version as well');
});

test('an upload left nothing, nor does who does not want to', async () => {
  const teacher = (await server.must(200, server.get('/v1/models/teacher'))).json;
  same(teacher.training, null, 'an upload');
  const v = await trained('lean', { keep_optimizer: false });
  same(v.training, null, 'keep_optimizer: false');
  same(v.version, 1, 'version');
  const again = await trained('lean', {});
  same(again.version, 1, 'the same bytes are the same version');
  same(again.training.steps, STEPS, 'which has it now');
});

test('training goes on in two halves of one course', async () => {
  const course = { steps: STEPS, batch: BATCH, optimizer: 'sgd', learning_rate: 0.02,
    schedule: { kind: 'cosine', length: 2 * STEPS } };
  const half = await trained('half', course);
  ok(Math.abs(half.training.learning_rate - 0.01) < 0.001, `${half.training.learning_rate} half-way, not about 0.01`);
  const on = { method: 'train', dataset: { ref: 'fashion', scale: 255 }, output: 'whole', train: course };
  const run = async (request) => (await server.finished(await server.submit(request))).result.report.restart;
  same((await run({ ...on, model: 'half' })).optimizer, 'continued', 'report');
  const whole = (await server.must(200, server.get('/v1/models/whole'))).json;
  same(whole.training.steps, 2 * STEPS, 'steps of both');
  ok(whole.training.learning_rate < 0.001, `${whole.training.learning_rate} at the end`);
  same((await run({ ...on, model: 'half', restart: 'fresh', output: 'other' })).optimizer, 'fresh', 'as asked');
  same((await run({ ...on, model: 'half', new_head: { classes: 10 }, output: 'head' })).optimizer, 'fresh', 'new head');
  const restart = await run({ method: 'morph', model: 'half', dataset: on.dataset, output: 'wide',
    steps: [{ op: 'widen', factor: 2 }], train: { steps: STEPS, batch: BATCH } });
  same(restart.optimizer, 'mapped', 'after surgery');
  same(restart.learning_rate, 0.02, 'in the course of the parent, which has room for it');
  const wide = (await server.must(200, server.get('/v1/models/wide'))).json;
  ok(wide.training.learning_rate < 0.001, `${wide.training.learning_rate} at the end of that course`);
});

test('the student does not depend on it', async () => {
  const one = await trained('one', { keep_optimizer: true, seed: 3 });
  const two = await trained('two', { keep_optimizer: false, seed: 3 });
  same(one.digest, two.digest, 'digest');
});

test('it is described', async () => {
  const api = (await server.must(200, server.get('/openapi.json'))).json;
  const text = JSON.stringify(api);
  ok(text.includes('"training"') && text.includes('what training left to go on from'), 'openapi.json');
  const methods = (await server.must(200, server.get('/v1/methods'))).json;
  const train = methods.items.find((m) => m.name === 'train');
  ok(JSON.stringify(train).includes('"keep_optimizer"'), 'GET /v1/methods');
});

test('it goes with its version', async () => {
  await server.must(200, server.request('DELETE', '/v1/models/adam@1'));
  const r = await server.get('/v1/models/adam@1');
  same(r.status, 404, 'the version');
});
