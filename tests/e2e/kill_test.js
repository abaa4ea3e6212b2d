#!/usr/bin/env node
// kill_test.js - kill -9 in the middle of a job: of the worker, and of the server with everything that hangs on it.
'use strict';

const child = require('child_process');
const fs = require('fs');
const path = require('path');
const { cleanup, note, ok, same, test } = require('../js/tap');
const { Server, TEACHER, distil, scratch, sleep } = require('../js/retort');

const N_IMAGES = 6000;
const EPOCHS = 16; // long enough for a checkpoint, which a worker makes every five seconds
const DEEP = 60;   // steps of a checkpoint to kill after: into the second epoch
const job = distil({ train: { epochs: EPOCHS, seed: 3 } });

let expected; // the bytes of an undisturbed run

async function start(options) {
  const server = await Server.start(options);
  cleanup(() => server.kill());
  return server;
}

// Waits for a checkpoint of the only job. That it exists is nobody's business over HTTP, so look into the store.
async function checkpointed(server, id) {
  const newest = () => Number(child.execFileSync('sqlite3', ['-readonly', path.join(server.data, 'retort.db'),
    '.timeout 5000', 'SELECT coalesce(max(step), 0) FROM checkpoints']));
  for (let i = 0; i < 600; i++) {
    const now = await server.job(id);
    if (now.state !== 'queued' && now.state !== 'running') break;
    if (newest() >= DEEP) return server.job(id);
    await sleep(100);
  }
  throw new Error('the job made no checkpoint');
}

async function log(server, id) {
  return (await server.get(`/v1/jobs/${id}/events`, { accept: 'application/x-ndjson' })).body.toString();
}

test('undisturbed, for comparison', async () => {
  const server = await start();
  await server.fashion(N_IMAGES);
  const id = await server.submit(job);
  const t0 = Date.now();
  const done = await server.finished(id);
  note(`took ${((Date.now() - t0) / 1000).toFixed(1)} s`);
  same(done.attempt, 1, 'attempts');
  expected = await server.student(id);
  await server.stop();
});

test('the worker killed in the middle: the next one goes on and ends in the same bytes', async () => {
  const server = await start();
  await server.fashion(N_IMAGES);
  const id = await server.submit(job);
  const before = await checkpointed(server, id);
  const victims = server.workers();
  ok(victims.length >= 1, 'no worker process found');
  victims.forEach((pid) => process.kill(pid, 'SIGKILL'));
  const t0 = Date.now();
  const done = await server.finished(id);
  note(`killed at ${(before.progress.fraction * 100).toFixed(0)} %, finished ${((Date.now() - t0) / 1000).toFixed(1)} s later`);
  same(done.attempt, 2, 'attempts');
  ok(expected && expected.equals(await server.student(id)), 'the student differs from the undisturbed one');
  ok(/checkpoint|resum/i.test(await log(server, id)), 'the events say nothing of going on from a checkpoint');
  await server.stop();
});

test('the server killed in the middle: what it acknowledged is there again, and the job finishes', async () => {
  const data = scratch();
  let server = await start({ data });
  await server.fashion(N_IMAGES, 500);
  const id = await server.submit(job);
  await checkpointed(server, id);
  const workers = server.workers();
  await server.kill();
  await sleep(200);
  note(`${workers.filter((p) => fs.existsSync(`/proc/${p}`)).length} of ${workers.length} workers outlived the server`);

  server = await start({ data });
  const model = await server.must(200, server.get('/v1/models/teacher@1/onnx'));
  ok(model.body.equals(fs.readFileSync(TEACHER)), 'the teacher came back with other bytes');
  for (const name of ['fashion', 'fashion-test']) {
    const set = (await server.must(200, server.get(`/v1/datasets/${name}`))).json;
    ok(JSON.stringify(set).includes('inputs') && JSON.stringify(set).includes('labels'), `${name} lost an array`);
  }
  const done = await server.finished(id);
  ok(expected && expected.equals(await server.student(id)), 'the student differs from the undisturbed one');
  note(`finished at attempt ${done.attempt}`);
  await server.stop();
});

test('the server killed right after each answer: nothing acknowledged is lost', async () => {
  const data = scratch();
  for (let i = 1; i <= 5; i++) {
    const server = await start({ data });
    const known = await server.must(200, server.get('/v1/datasets?limit=100'));
    same(known.json.items.length, i - 1, 'data sets after the restart');
    await server.must(201, server.put(`/v1/datasets/set${i}/labels`, fs.readFileSync('/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz')));
    await server.kill();
  }
});
