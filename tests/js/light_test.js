#!/usr/bin/env node
// light_test.js - the nine architectures of ONNX's `light` set, as zoo.js makes them, in retort and in ONNX Runtime:
// the same numbers before and after retort has written the network anew, which ONNX's checker accepts. They are made one
// at a time, as the largest has 575 MB of weights. ONNX_LIGHT=DIR takes the files of that folder instead: *.onnx for one
// image of 3 x 224 x 224.
'use strict';

const child = require('child_process');
const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');
const { note, ok, same, test } = require('./tap');
const { npyWrite, npzRead } = require('./arrays');
const { BINARY, SANITIZED, scratch } = require('./retort');
const onnx = require('./onnx');
const { ARCHITECTURES, count, fill, save, seed } = require('./zoo');

const TOLERANCE = 1e-4;   // difference of two outputs beside the largest output
const LARGE = 50e6;       // weights; what has more is left out under a sanitizer, which would take minutes, and not
                          // taken apart by Python, which would take gigabytes
const PATCHES = 7;        // an image has so many patches in a row

const folder = scratch();

// Images of patches of random colours with noise, so that they differ in more than noise; values as Caffe's networks
// have them.
function images(n, [channels, height, width]) {
  const x = new Float32Array(n * channels * height * width);
  const patches = new Float32Array(n * channels * PATCHES * PATCHES);
  fill(patches, seed('patches'), -100, 100);
  fill(x, seed('noise'), -28, 28);
  for (let i = 0; i < x.length; i++) {
    const column = Math.floor((i % width) * PATCHES / width);
    const row = Math.floor((Math.floor(i / width) % height) * PATCHES / height);
    x[i] += patches[(Math.floor(i / (width * height)) * PATCHES + row) * PATCHES + column];
  }
  return x;
}

async function judge(file, shape, x) {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 2, logSeverityLevel: 3 });
  const names = [session.inputNames, session.outputNames];
  const y = await session.run({ [names[0][0]]: new ort.Tensor('float32', x, shape) });
  const data = y[names[1][0]].data;
  await session.release();
  return { names: JSON.stringify(names), data };
}

// The outputs of `retort run`, which also writes the network anew.
function retort(model, shape, x, anew) {
  const [input, output] = [path.join(folder, 'x.npy'), path.join(folder, 'y.npz')];
  fs.writeFileSync(input, npyWrite(shape, x));
  const args = ['run', model, input, '-o', output, '--export', anew];
  child.execFileSync(BINARY, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const arrays = Object.values(npzRead(fs.readFileSync(output)));
  same(arrays.length, 1, 'outputs');
  return arrays[0].data;
}

// The checker of ONNX (Debian python3-onnx) accepts what is written; of a model that is not too large, all names are
// compared as well.
function check(model, anew) {
  const python = (...args) => child.spawnSync('/usr/bin/python3', args, { encoding: 'utf8' });
  if (fs.statSync(anew).size > 4 * LARGE) {
    const { status, stderr } = python('-c', 'import onnx, sys; onnx.checker.check_model(sys.argv[1])', anew);
    return ok(status === 0, `the checker refuses the network written anew: ${stderr}`);
  }
  const pair = path.join(folder, 'pairs', 'pair');
  fs.mkdirSync(pair, { recursive: true });
  fs.symlinkSync(path.resolve(model), path.join(pair, 'before.onnx'));
  fs.symlinkSync(anew, path.join(pair, 'after.onnx'));
  const { stdout, stderr } = python(path.join(__dirname, 'canonical.py'), path.dirname(pair));
  fs.rmSync(pair, { recursive: true });
  same(stdout.trim() || stderr, '{"case": "pair", "lost": [], "before": "", "after": ""}', 'what is lost and unsound');
}

const largest = (list) => list.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
const apart = (a, b) => largest(a.map((v, i) => v - b[i]));

// VGG-19's largest layer, its weights made of nothing but their shape, as ONNX's own light models have them.
function bare() {
  const value = (name, n) => ({ name, shape: ['N', n] });
  return onnx.model({
    opset: 9,
    nodes: [{ op: 'ConstantOfShape', name: 'zeros', inputs: ['size'], outputs: ['w'] },
      { op: 'Gemm', name: 'fc6', inputs: ['x', 'w', 'b'], outputs: ['y'], attributes: { transB: 1 } }],
    tensors: [{ name: 'size', shape: [2], data: BigInt64Array.of(4096n, 25088n) },
      { name: 'b', shape: [4096], data: Array.from({ length: 4096 }, (_, i) => i / 4096) }],
    inputs: [value('x', 25088)],
    outputs: [value('y', 4096)],
  });
}

async function compare(name, model, shape, x) {
  const anew = path.join(folder, 'anew.onnx');
  const truth = await judge(model, shape, x);
  const mine = retort(model, shape, x, anew);
  const again = await judge(anew, shape, x);
  check(model, anew);
  fs.rmSync(anew);
  same(mine.length, truth.data.length, 'numbers that come out');
  const size = largest(truth.data);
  const [error, change] = [apart(mine, truth.data) / size, apart(again.data, truth.data) / size];
  note(`${name}: ${error.toExponential(1)} from ONNX Runtime; written anew, ${change.toExponential(1)}`);
  ok(error <= TOLERANCE, `relative error ${error}, at most ${TOLERANCE} is allowed`);
  ok(change <= TOLERANCE, `written anew, ONNX Runtime finds it ${change} away, at most ${TOLERANCE} is allowed`);
  same(again.names, truth.names, 'inputs and outputs of the network written anew');
  return truth.data;
}

async function made(name) {
  const net = ARCHITECTURES[name]();
  if (SANITIZED && net.weights.reduce((n, w) => n + count(w), 0) > LARGE) {
    ok(true, 'left out');
    return note(`${name}: left out under a sanitizer`);
  }
  const model = path.join(folder, 'model.onnx');
  save(model, net);
  const y = await compare(name, model, [2, ...net.input.shape], images(2, net.input.shape));
  fs.rmSync(model);
  const n = y.length / 2, size = largest(y);
  const between = apart(y.slice(0, n), y.slice(n)) / size, within = (size - Math.min(...y)) / size;
  ok(between > 0.02 && within > 0.1, `outputs that hardly differ prove nothing: ${between} and ${within}`);
}

async function given(file) {
  const shape = [1, 3, 224, 224];
  await compare(path.basename(file), file, shape, images(1, shape.slice(1)));
}

if (process.env.ONNX_LIGHT) {
  for (const file of fs.readdirSync(process.env.ONNX_LIGHT).filter((f) => f.endsWith('.onnx')))
    test(`${file} gives the same outputs`, () => given(path.join(process.env.ONNX_LIGHT, file)));
} else {
  for (const name of Object.keys(ARCHITECTURES)) test(`${name} gives the same outputs`, () => made(name));
  test('weights may be made of their shape', async () => {
    const model = path.join(folder, 'bare.onnx');
    fs.writeFileSync(model, bare());
    await compare('bare', model, [2, 25088], images(2, [1, 1, 25088]));
  });
}
