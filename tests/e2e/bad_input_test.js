#!/usr/bin/env node
// bad_input_test.js - what is wrong with a request is said in words, with the place, and does no harm.
'use strict';

const fs = require('fs');
const net = require('net');
const zlib = require('zlib');
const { cleanup, note, ok, same, test } = require('../js/tap');
const { npyHeader, npyWrite, tensorsFile, tensorsWrite, zipWrite } = require('../js/arrays');
const { dense } = require('../js/onnx');
const { SANITIZED, Server, TEACHER, distil } = require('../js/retort');

let server;
const teacher = fs.readFileSync(TEACHER);
const job = (spec) => () => server.post('/v1/jobs', spec);
const put = (target, body) => () => server.put(target, typeof body === 'function' ? body() : body);
const tiny = (change) => dense({ features: 4, classes: 3, change });

function spoil(name, data) {
  return tiny((m) => ({ ...m, tensors: m.tensors.map((t) => (t.name === name ? { ...t, ...data(t) } : t)) }));
}

// A member that says it holds `shape` bytes and unpacks to 256 MiB of zeros.
function bomb(shape) {
  const size = 256 << 20;
  const packed = zlib.deflateRawSync(Buffer.concat([npyHeader('|u1', shape), Buffer.alloc(size)]), { level: 9 });
  return zipWrite([{ name: 'inputs.npy', packed, size, crc: 0 }]);
}

// A safetensors file with the tensors of {name: [dtype, shape, begin, end]} and `size` bytes of data.
function tensors(entries, size = 16) {
  const header = Object.fromEntries(Object.entries(entries).map(([name, [dtype, shape, ...offsets]]) => (
    [name, { dtype, shape, data_offsets: offsets }])));
  return tensorsFile(header, Buffer.alloc(size));
}

// A header of 1 MiB that becomes a tree of as many things as possible.
const thicket = () => tensorsFile(`{"a":[1${',1'.repeat((1 << 19) - 10)}]}`);

// What is sent · the status · words that the detail must have · the JSON pointer of the field.
const table = [
  ['an ONNX file cut in half', put('/v1/models/bad/onnx', teacher.subarray(0, teacher.length / 2)), [400, 422], []],
  ['an ONNX file cut near its end', put('/v1/models/bad/onnx', teacher.subarray(0, teacher.length - 7)), [400, 422], []],
  ['an ONNX file that is text', put('/v1/models/bad/onnx', '<html>not a network</html>'), [400, 422], [/onnx/i]],
  ['an empty body for a network', put('/v1/models/bad/onnx', ''), [400, 422], [/empty|no bytes|0 bytes/i]],
  ['an unknown operator', put('/v1/models/bad/onnx', () => tiny((m) => {
    m.nodes[2] = { op: 'Frobnicate', name: 'act', inputs: ['h'], outputs: ['a'] };
    return m;
  })), [422], [/Frobnicate/, /act/]],
  ['shapes inside a network that do not fit', put('/v1/models/bad/onnx', () => spoil('w2', () => (
    { shape: [3, 5], data: Array(15).fill(0) }))), [422], [/fc2/, /8/, /5/]],
  ['NaN among the weights', put('/v1/models/bad/onnx', () => spoil('w1', (t) => (
    { data: t.data.map((v, i) => (i === 9 ? NaN : v)) }))), [422], [/NaN|finite/i, /w1/]],
  ['infinite weights', put('/v1/models/bad/onnx', () => spoil('b2', (t) => (
    { data: t.data.map(() => Infinity) }))), [422], [/inf|finite/i, /b2/]],
  ['a name outside the rules', put('/v1/models/UPPER/onnx', teacher), [400, 404, 422], [/name/i]],
  ['an npz whose array unpacks to more than it says', put('/v1/datasets/bad/npz', () => bomb([16])), [400, 413, 422], []],
  ['an npz whose array says it has 8 TiB', put('/v1/datasets/bad/npz', () => bomb([2 ** 43])), [413, 422], []],
  ['an npz that is cut', put('/v1/datasets/bad/npz', () => zipWrite([{ name: 'inputs.npy',
    bytes: npyWrite([4], new Uint8Array(4)) }]).subarray(0, 60)), [400, 422], []],
  ['an npy that is cut', put('/v1/datasets/bad/inputs', () => Buffer.concat([npyHeader('<f4', [100, 4]), Buffer.alloc(64)])), [400, 422], []],
  ['a gzip body that is damaged', put('/v1/datasets/bad/inputs', () => {
    const z = zlib.gzipSync(npyWrite([64], new Uint8Array(64)));
    z[z.length - 6] ^= 1;
    return z;
  }), [400, 422], []],
  ['a safetensors file that is text', put('/v1/datasets/bad/safetensors', '<html>no tensors</html>'), [400, 422], [/safetensors/]],
  ['a safetensors file that is cut', put('/v1/datasets/bad/safetensors', () => tensors({ a: ['U8', [16], 0, 16] }, 9)), [400, 422], [/cut off/, /'a'/]],
  ['a safetensors file with more than it says', put('/v1/datasets/bad/safetensors', () => tensors({ a: ['U8', [9], 0, 9] })), [400, 422], [/after/]],
  ['a safetensors header of 4 GiB', put('/v1/datasets/bad/safetensors', () => Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, 123])), [400, 413, 422], [/4294967296/]],
  ['a safetensors header of 1 MiB of numbers', put('/v1/datasets/bad/safetensors', thicket), [400, 422], [/'a'/]],
  ['a tensor that says it has 8 TiB', put('/v1/datasets/bad/safetensors', () => tensors({ a: ['U8', [2 ** 43], 0, 2 ** 43] })), [413, 422], []],
  ['a tensor whose shape overflows', put('/v1/datasets/bad/safetensors', () => tensors({ a: ['F64', [2 ** 40, 2 ** 40], 0, 16] })), [413, 422], [/'a'/]],
  ['tensors that overlap', put('/v1/datasets/bad/safetensors', () => tensors({ a: ['U8', [10], 0, 10], b: ['U8', [10], 6, 16] })), [422], [/'b'/, /'a'/]],
  ['tensors with a hole between them', put('/v1/datasets/bad/safetensors', () => tensors({ a: ['U8', [4], 0, 4], b: ['U8', [8], 8, 16] })), [422], [/'b'/, /\b4\b/]],
  ['a tensor twice', put('/v1/datasets/bad/safetensors', () => tensorsFile('{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}', Buffer.alloc(16))), [400, 422], [/\ba\b/, /twice/]],
  ['a tensor of floats with 8 bits', put('/v1/datasets/bad/safetensors', () => tensors({ a: ['F8_E5M2', [16], 0, 16] })), [422], [/F8_E5M2/, /'a'/]],
  ['a tensor with a name that no array has', put('/v1/datasets/bad/safetensors', () => tensors({ '../a': ['U8', [16], 0, 16] })), [422], [/\.\.\/a/]],
  ['weights without a network', put('/v1/models/bad/safetensors', () => tensors({ w: ['F32', [4], 0, 16] })), [404], [/bad/]],
  ['weights of another network', put('/v1/models/teacher/safetensors', () => tensors({ 'encoder.weight': ['F32', [4], 0, 16] })), [422], [/encoder\.weight/]],
  ['weights that are cut', put('/v1/models/teacher/safetensors', () => tensorsWrite({ a: { shape: [4], data: new Float32Array(4) } }).subarray(0, 30)), [400, 422], [/cut off/]],
  ['no weights at all', put('/v1/models/teacher/safetensors', () => tensorsFile('{}')), [422], [/missing/]],
  ['weights that are an ONNX file', put('/v1/models/teacher/safetensors', teacher), [400, 413, 422], [/safetensors/]],
  ['an empty body for weights', put('/v1/models/teacher/safetensors', ''), [400, 422], [/empty/]],
  ['JSON that stops', job('{"method":"distill",'), [400], []],
  ['JSON with a key twice', job('{"method":"distill","method":"train"}'), [400, 422], [/method/]],
  ['an unknown field', job(distil({ studnet: {} })), [400, 422], [/studnet/], '/studnet'],
  ['an unknown field further down', job(distil({ student: { widht: 0.5 } })), [400, 422], [/widht/], '/student/widht'],
  ['a value of the wrong type', job(distil({ student: { width: 'half' } })), [400, 422], [], '/student/width'],
  ['a value out of range', job(distil({ student: { width: -1 } })), [400, 422], [], '/student/width'],
  ['an unknown method', job(distil({ method: 'distil' })), [404, 422], [/distil/, /distill/], '/method'],
  ['a teacher that is not there', job(distil({ teacher: 'nobody' })), [404, 422], [/nobody/], '/teacher'],
  ['a version that is not there', job(distil({ teacher: 'teacher@9' })), [404, 422], [/teacher/, /\b9\b/], '/teacher'],
  ['no teacher at all', job({ method: 'distill', dataset: 'fashion', student: { width: 0.5 } }), [400, 422], [/teacher/], '/teacher'],
  ['a data set that is not there', job(distil({ dataset: 'nothing' })), [404, 422], [/nothing/], '/dataset'],
  ['images of another shape than the network takes', job(distil({ dataset: 'flat' })), [422], [/28/, /\b7\b/], '/dataset'],
  ['labels out of range', job(distil({ dataset: 'mislabelled' })), [422], [/label/i, /\b12\b/, /\b17\b/, /\b10\b|\b9\b/], '/dataset'],
  ['fewer labels than images', job(distil({ dataset: 'short' })), [422], [/\b40\b/, /\b30\b/], '/dataset'],
  ['a job that is not there', () => server.get('/v1/jobs/999'), [404], [/999/]],
  ['a path that is not there', () => server.get('/v1/nothing'), [404], []],
  ['a method that a path does not have', () => server.request('DELETE', '/v1/methods'), [405], []],
  ['a path that climbs', () => server.get('/v1/../../etc/passwd'), [400, 404], []],
];

test('start, with a teacher and some data', async () => {
  server = await Server.start();
  cleanup(() => server.stop());
  await server.fashion(500);
  const images = (n, h, w) => npyWrite([n, 1, h, w], new Uint8Array(n * h * w));
  const labels = (n, seventeenth = 7) => npyWrite([n], Uint8Array.from({ length: n }, (_, i) => (i === 17 ? seventeenth : i % 10)));
  for (const [name, inputs, labels_] of [['flat', images(40, 7, 9), labels(40)],
    ['mislabelled', images(40, 28, 28), labels(40, 12)], ['short', images(40, 28, 28), labels(30)]]) {
    await server.must(201, server.put(`/v1/datasets/${name}/inputs`, inputs));
    const r = await server.put(`/v1/datasets/${name}/labels`, labels_);
    ok([201, 422].includes(r.status), `labels of ${name}: ${r.status}`); // too few may be refused right here
  }
});

for (const [name, send, statuses, words, pointer] of table) {
  test(name, async () => {
    const r = await send();
    const text = r.body.toString();
    ok(statuses.includes(r.status), `status ${r.status}, expected ${statuses.join(' or ')}: ${text.slice(0, 400)}`);
    same(r.headers['content-type'], 'application/problem+json', 'content type');
    const p = r.json;
    ok(p && p.type && p.title && p.detail, `a problem has type, title and detail: ${text}`);
    same(p.status, r.status, 'status inside');
    const said = JSON.stringify([p.detail, p.errors]);
    for (const word of words) ok(word.test(said), `${word} is not in ${said}`);
    if (pointer) ok((p.errors || []).some((e) => e.pointer.startsWith(pointer)), `no pointer ${pointer} in ${text}`);
  });
}

// Sends a request's head that announces a body, and nothing of the body: the answer must come all the same.
function announce(target, method, size) {
  return new Promise((done, fail) => {
    const socket = net.connect(server.port, '127.0.0.1');
    let text = '';
    const timer = setTimeout(() => { socket.destroy(); fail(new Error(`no answer, only: ${text}`)); }, 5000);
    socket.on('data', (d) => {
      text += d;
      if (!/^HTTP\/1.1 \d+/.test(text)) return;
      clearTimeout(timer);
      socket.destroy();
      done(Number(text.slice(9, 12)));
    });
    socket.on('error', fail);
    socket.write(`${method} ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${size}\r\nExpect: 100-continue\r\n\r\n`);
  });
}

test('a body over the limit is refused before it is sent', async () => {
  same(await announce('/v1/jobs', 'POST', 80 << 20), 413, 'status for JSON of 80 MiB');
  same(await announce('/v1/models/bad/onnx', 'PUT', 2 ** 50), 413, 'status for a network of 1 PiB');
  same(await announce('/v1/models/teacher/safetensors', 'PUT', 2 ** 50), 413, 'status for weights of 1 PiB');
  same(await announce('/v1/datasets/bad/inputs', 'PUT', 2 ** 50), 413, 'status for an array of 1 PiB');
});

test('after all that: the same server, the same teacher, nothing more', async () => {
  same(server.process.exitCode, null, 'exit status of the server');
  same((await server.get('/healthz')).status, 200, 'status of /healthz');
  ok((await server.get('/v1/models/teacher/onnx')).body.equals(teacher), 'the teacher changed');
  const models = (await server.get('/v1/models')).json.items.map((m) => m.name);
  same(models.join(), 'teacher', 'models');
  same((await server.get('/v1/models/teacher')).json.version_count, 1, 'versions of the teacher');
  const sets = (await server.get('/v1/datasets')).json.items.map((m) => m.name);
  ok(!sets.includes('bad'), 'a broken data set was kept');
  same((await server.get('/v1/jobs')).json.items.length, 0, 'jobs');
  const peak = server.memory('VmHWM') / 1024;
  note(`peak memory of the server ${peak.toFixed(1)} MiB`);
  ok(SANITIZED || peak < 128, `the server took ${peak} MiB`);
});
