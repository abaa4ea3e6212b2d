#!/usr/bin/env node
// weights_test.js - safetensors over HTTP: weights out of a network, others into it, and data sets.
'use strict';

const child = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { Readable } = require('stream');
const { cleanup, note, ok, same, test } = require('../js/tap');
const { idxRead, npyRead, npyWrite, npzRead, tensorsFile, tensorsRead, tensorsWrite } = require('../js/arrays');
const { dense } = require('../js/onnx');
const { BINARY, FASHION, SANITIZED, Server, distil, scratch } = require('../js/retort');

const FEATURES = 4, HIDDEN = 8, CLASSES = 3;
const folder = scratch();
let server;
let given; // the tensors of the small network, as they went in
const small = dense({ features: FEATURES, classes: CLASSES, hidden: HIDDEN, change: (m) => { given = m.tensors; return m; } });
const weights = Object.fromEntries(given.map((t) => [t.name, { shape: t.shape, data: Float32Array.from(t.data) }]));
const changed = (name, f) => ({ ...weights, [name]: { ...weights[name], data: weights[name].data.map(f) } });
const put = (name, body) => server.put(`/v1/models/${name}/safetensors`, body);
const get = (name, headers) => server.get(`/v1/models/${name}/safetensors`, headers);

// What the small network must give for one sample, worked out here.
function formula({ w1, b1, w2, b2 }, x) {
  const layer = (w, b, v) => Array.from(b.data, (bias, i) => v.reduce((sum, vk, k) => sum + w.data[i * v.length + k] * vk, bias));
  return layer(w2, b2, layer(w1, b1, x).map((v) => Math.max(v, 0)));
}

async function run(model, input) {
  const [onnx, npy, out] = ['m.onnx', 'x.npy', 'y.npz'].map((f) => path.join(folder, f));
  fs.writeFileSync(onnx, (await server.must(200, server.get(`/v1/models/${model}/onnx`))).body);
  fs.writeFileSync(npy, input);
  child.execFileSync(BINARY, ['run', onnx, npy, '-o', out]);
  return Object.values(npzRead(fs.readFileSync(out)))[0].data;
}

async function follows(model, tensors) {
  const x = [[1, -2, 0.5, 3], [0, 0, 0, 0], [-1, 1, -1, 1]];
  const found = await run(model, npyWrite([3, FEATURES], Float32Array.from(x.flat())));
  x.flatMap((v) => formula(tensors, v)).forEach((y, i) => (
    ok(Math.abs(found[i] - y) < 1e-5, `${model}: output ${i} is ${found[i]}, not ${y}`)));
}

test('start, with a small network and the teacher', async () => {
  server = await Server.start();
  cleanup(() => server.stop());
  const r = await server.must(201, server.put('/v1/models/small/onnx', small));
  same(r.json.parameters, HIDDEN * FEATURES + HIDDEN + CLASSES * HIDDEN + CLASSES, 'parameters');
  await server.fashion(300);
});

test('the weights come out under the names of the file, to the bit', async () => {
  const r = await server.must(200, get('small'));
  same(r.headers['content-disposition'], 'attachment; filename="small-v1.safetensors"', 'Content-Disposition');
  same(r.headers['content-location'], '/v1/models/small@1/safetensors', 'Content-Location');
  const digest = crypto.createHash('sha256').update(r.body).digest();
  same(r.headers.etag, `"sha256:${digest.toString('hex')}"`, 'ETag');
  same(r.headers['repr-digest'], `sha-256=:${digest.toString('base64')}:`, 'Repr-Digest');
  const found = tensorsRead(r.body);
  same(Object.keys(found).join(), Object.keys(weights).join(), 'names');
  for (const [name, t] of Object.entries(found)) {
    same(t.dtype, 'F32', name);
    same(t.shape.join(), weights[name].shape.join(), `shape of ${name}`);
    same(Array.from(t.data).join(), Array.from(weights[name].data).join(), name);
  }
  const graph = (await server.must(200, server.get('/v1/models/small/graph'))).json;
  same(graph.constants.map((c) => c.name).join(), Object.keys(found).join(), 'constants of the graph');
  same(graph.nodes.map((n) => n.op).join(), 'Flatten,Gemm,Relu,Gemm', 'nodes of the graph');
});

test('they are a download like any other: ranges, conditions, heads', async () => {
  const whole = await server.must(200, get('small@1'));
  ok(/immutable/.test(whole.headers['cache-control']), 'a number never moves');
  const part = await server.must(206, get('small', { range: 'bytes=8-20', 'if-range': whole.headers.etag }));
  ok(part.body.equals(whole.body.subarray(8, 21)), 'the part');
  await server.must(304, get('small', { 'if-none-match': whole.headers.etag }));
  await server.must(416, get('small', { range: `bytes=${whole.body.length}-` }));
  const head = await server.must(200, server.request('HEAD', '/v1/models/small/safetensors'));
  same(Number(head.headers['content-length']), whole.body.length, 'Content-Length');
  await server.must(404, get('nobody'));
});

test('the same weights are the same version, others the next one', async () => {
  await follows('small@1', weights);
  const again = await server.must(200, put('small', (await get('small')).body));
  same(again.json.version, 1, 'version');
  const other = changed('w2', (v) => -3 * v);
  const r = await server.must(201, put('small', tensorsWrite(other)));
  same(r.json.version, 2, 'version');
  same(r.headers.location, '/v1/models/small@2', 'Location');
  await follows('small', other);
  await follows('small@1', weights);
  ok((await server.get('/v1/models/small@1/onnx')).body.equals(small), 'the first version changed');
  same((await server.must(200, put('small', tensorsWrite(other)))).json.version, 2, 'version the second time');
});

test('other orders, wider numbers and metadata make no difference', async () => {
  const wide = Object.fromEntries(Object.entries(weights).reverse().map(([name, t]) => (
    [name, { shape: t.shape, data: Float64Array.from(t.data) }])));
  await server.must(201, put('small', tensorsWrite(wide, { format: 'pt' })));
  await follows('small@3', weights);
  const [a, b] = [(await get('small@1')).body, (await get('small@3')).body];
  ok(a.equals(b), 'the same numbers, other bytes');
});

test('what does not fit is told, and keeps nothing', async () => {
  const versions = async () => (await server.get('/v1/models/small')).json.version_count;
  const before = await versions();
  const { b2, ...incomplete } = weights;
  const [r404, ...rest] = await Promise.all([put('nobody', tensorsWrite(weights)), put('small', tensorsWrite(incomplete)),
    put('small', tensorsWrite({ ...incomplete, b_2: b2 })), put('small', tensorsWrite({ ...weights, b2: { shape: [1, 3], data: b2.data } })),
    put('small', tensorsWrite(changed('w1', () => NaN)))]);
  same(r404.status, 404, 'status without a network');
  ok(/PUT \/v1\/models\/nobody\/onnx/.test(r404.json.detail), r404.json.detail);
  [/1 of the network's 4 weights are missing, the first of them 'b2', float32 \[3\]/, /'b_2': .*did you mean 'b2'/,
    /'b2': its shape is \[1,3\]; the network has \[3\]/, /'w1': element 0 of 32 is NaN/].forEach((words, i) => {
    same(rest[i].status, 422, 'status');
    ok(words.test(rest[i].json.detail), `${words} is not in ${rest[i].json.detail}`);
  });
  same(await versions(), before, 'versions');
});

test('the teacher with another bias sees nothing but boots', async () => {
  const own = (await server.must(200, get('teacher'))).body;
  same((await server.must(200, put('teacher', own))).json.version, 1, 'its own weights are its own version');
  const tensors = tensorsRead(own);
  const last = Object.values(tensors).find((t) => t.shape.join() === '10');
  last.data[9] += 1000;
  await server.must(201, put('teacher', tensorsWrite(tensors)));
  const images = idxRead(path.join(FASHION, 't10k-images-idx3-ubyte.gz'));
  const n = 50;
  const outputs = await run('teacher', npyWrite([n, 1, 28, 28], Float32Array.from(images.data.subarray(0, n * 784), (v) => v / 255)));
  for (let i = 0; i < n; i++) {
    const row = Array.from(outputs.subarray(i * 10, i * 10 + 10));
    same(row.indexOf(Math.max(...row)), 9, `class of image ${i}`);
  }
});

test('the weights of a student are waited for', async () => {
  const id = await server.submit(distil({ teacher: 'teacher@1', train: { epochs: 1 } }));
  await server.must(409, server.get(`/v1/jobs/${id}/student/safetensors`));
  const r = await server.must(200, server.get(`/v1/jobs/${id}/student/safetensors?wait=300`));
  same(r.headers['content-disposition'], 'attachment; filename="student-v1.safetensors"', 'Content-Disposition');
  same(r.headers['content-location'], '/v1/models/student@1/safetensors', 'Content-Location');
  ok(r.body.equals((await get('student')).body), 'other bytes than those of the model');
  await server.must(200, put('student', r.body));
  ok(Object.keys(tensorsRead(r.body)).length > 4, 'few tensors');
});

test('arrays of a data set come in one file', async () => {
  const inputs = Float32Array.from({ length: 24 }, (_, i) => i / 7);
  const labels = BigInt64Array.from([3n, 1n, 2n]);
  const file = tensorsWrite({ labels: { shape: [3], data: labels }, inputs: { shape: [3, 2, 4], data: inputs },
    mask: { shape: [3], data: Uint8Array.of(1, 0, 1), dtype: 'BOOL' } });
  const r = await server.must(201, server.put('/v1/datasets/tensors/safetensors', file));
  same(r.json.arrays.map((a) => `${a.name} ${a.dtype} ${a.shape}`).join('; '),
    'inputs float32 3,2,4; labels int64 3; mask bool 3', 'arrays');
  const array = async (name) => npyRead((await server.must(200, server.get(`/v1/datasets/tensors/${name}`))).body);
  same((await array('inputs')).data.join(), inputs.join(), 'inputs');
  same((await array('labels')).data.join(), labels.join(), 'labels');
  await server.must(200, server.put('/v1/datasets/tensors/safetensors', file));
});

test('a file of tensors of 192 MiB goes by', async () => {
  const before = server.memory('VmHWM') / 1024;
  const size = 192 << 20;
  const rows = Buffer.alloc(1 << 20, 'retort');
  const head = tensorsFile({ inputs: { dtype: 'U8', shape: [192, 1 << 20], data_offsets: [0, size] } });
  function* pieces() {
    yield head;
    for (let i = 0; i < 192; i++) { rows.writeUInt32LE(i); yield Buffer.from(rows); }
  }
  const r = await server.must(201, server.put('/v1/datasets/big/safetensors', Readable.from(pieces()),
    { 'content-length': head.length + size }));
  same(r.json.bytes, size, 'bytes');
  const peak = server.memory('VmHWM') / 1024;
  note(`peak memory of the server ${before.toFixed(1)} MiB before, ${peak.toFixed(1)} MiB after`);
  ok(SANITIZED || peak < before + 32, `the server took ${peak - before} MiB more`);
});

test('openapi describes it', async () => {
  const { paths } = (await server.must(200, server.get('/openapi.json'))).json;
  for (const [target, verbs] of [['/v1/models/{ref}/safetensors', ['put', 'get']],
    ['/v1/datasets/{ref}/safetensors', ['put']], ['/v1/jobs/{id}/student/safetensors', ['get']], ['/v1/models/{ref}/graph', ['get']]]) {
    for (const verb of verbs) ok(paths[target]?.[verb]?.summary, `${verb} ${target}`);
  }
});
