#!/usr/bin/env node
// opsets_test.js - every opset that retort reads, with the attributes and inputs that operators have in it, and
// initializers of every element type, in retort and in ONNX Runtime. A network for each opset has every operator beside
// the others, an output each. And what jobs make of old opsets and of half and double precision.
'use strict';

const child = require('child_process');
const fs = require('fs');
const path = require('path');
const ort = require('onnxruntime-node');
const { cleanup, note, ok, same, test } = require('./tap');
const { npyWrite, npzRead } = require('./arrays');
const { BINARY, Server, scratch } = require('./retort');
const onnx = require('./onnx');
const { fill, seed } = require('./zoo');

const RELATIVE = 1e-4, ABSOLUTE = 1e-5;

const folder = scratch();

const floats = (shape, name = 'constant', low = -2, high = 2) => {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  fill(data, seed(name), low, high);
  return { shape, data };
};
const reals = (...data) => ({ shape: [data.length], data: Float32Array.from(data) });
const real = (v) => ({ shape: [], data: Float32Array.of(v) });
const ints = (...data) => ({ shape: [data.length], data: BigInt64Array.from(data, BigInt) });
const int = (v) => ({ shape: [], data: BigInt64Array.of(BigInt(v)) });
const yes = (...data) => ({ shape: [data.length], data: Uint8Array.from(data), type: 9 });

// What the networks are given.
const GIVEN = { x: floats([2, 4, 6, 6], 'x'), positive: floats([2, 4, 6, 6], 'positive', 0.1, 3),
  m: floats([2, 8], 'm'), unit: floats([2, 8], 'unit', -0.9, 0.9), s: floats([2, 3, 4], 's') };

// [first opset, last, operator, inputs, attributes, outputs]: a name is an input, anything else an initializer, '' left
// out.
const LAST = 22;
const c6 = floats([4, 1, 1], 'c6'), square = floats([5, 4, 3, 3], 'w'), bias = floats([5], 'b');
const norm = [floats([4], 'scale'), floats([4], 'shift'), floats([4], 'mean'), floats([4], 'variance', 0.5, 2)];
const always = (op, inputs, attributes, outputs) => [7, LAST, op, inputs, attributes, outputs];
const CALLS = [
  ...['Abs', 'Ceil', 'Elu', 'Exp', 'Floor', 'HardSigmoid', 'Identity', 'LeakyRelu', 'Neg', 'Relu', 'Selu', 'Sigmoid',
    'Softplus', 'Softsign', 'Tanh', 'GlobalAveragePool', 'GlobalMaxPool', 'Sin', 'Cos', 'Atan']
    .map((op) => always(op, ['x'])),
  [7, 21, 'GlobalLpPool', ['x'], { p: 3 }], // ONNX Runtime 1.30 has none for 22
  ...['Log', 'Sqrt', 'Reciprocal'].map((op) => always(op, ['positive'])),
  ...['Acos', 'Asin', 'Tan'].map((op) => always(op, ['unit'])),
  ...['Sinh', 'Cosh', 'Asinh', 'Erf', 'Sign', 'IsNaN'].map((op) => [9, LAST, op, ['x']]),
  ...['Acosh', 'Atanh'].map((op) => [9, LAST, op, op === 'Acosh' ? [floats([2, 8], 'large', 1.1, 3)] : ['unit']]),
  ...['Add', 'Sub', 'Mul', 'Div'].map((op) => always(op, ['x', c6])),
  ...['Equal', 'Greater', 'Less'].map((op) => [op === 'Equal' ? 11 : 9, LAST, op, ['x', c6]]),
  ...['GreaterOrEqual', 'LessOrEqual'].map((op) => [12, LAST, op, ['x', c6]]),
  ...['Max', 'Min', 'Sum', 'Mean'].flatMap((op) => [always(op, ['x', 'positive']),
    [8, LAST, op, ['x', c6, 'positive']]]),
  always('Pow', ['positive', c6]), [12, LAST, 'Pow', ['x', ints(2)]],
  always('PRelu', ['x', floats([4, 1, 1], 'slope')]),
  always('AveragePool', ['x'], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }),
  always('AveragePool', ['x'], { kernel_shape: [3, 3], pads: [1, 0, 1, 0], count_include_pad: 1 }),
  [10, LAST, 'AveragePool', ['x'], { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 }],
  [19, LAST, 'AveragePool', ['x'], { kernel_shape: [2, 2], dilations: [2, 2] }],
  always('MaxPool', ['x'], { kernel_shape: [3, 3], strides: [2, 2], auto_pad: 'SAME_UPPER' }),
  [8, LAST, 'MaxPool', ['x'], { kernel_shape: [2, 2], storage_order: 0 }],
  [10, LAST, 'MaxPool', ['x'], { kernel_shape: [2, 2], strides: [2, 2], dilations: [2, 2], ceil_mode: 1 }],
  [7, 8, 'BatchNormalization', ['x', ...norm], { epsilon: 1e-3, momentum: 0.8, spatial: 1 }],
  [9, LAST, 'BatchNormalization', ['x', ...norm], { epsilon: 1e-3, momentum: 0.8 }],
  [14, LAST, 'BatchNormalization', ['x', ...norm], { training_mode: 0 }],
  always('InstanceNormalization', ['x', norm[0], norm[1]], { epsilon: 1e-3 }),
  [17, LAST, 'LayerNormalization', ['s', floats([4], 'g'), floats([4], 'h')],
    { axis: -1, epsilon: 1e-3, stash_type: 1 }],
  [17, LAST, 'LayerNormalization', ['s', floats([3, 4], 'g')], { axis: 1 }],
  [18, 20, 'GroupNormalization', ['x', floats([2], 'g'), floats([2], 'h')], { num_groups: 2 }],
  [21, LAST, 'GroupNormalization', ['x', floats([4], 'g'), floats([4], 'h')], { num_groups: 2, stash_type: 1 }],
  always('LRN', ['x'], { size: 3, alpha: 0.5 }),
  always('Conv', ['x', square, bias], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
  always('Conv', ['x', floats([4, 2, 2, 2], 'wg')], { group: 2, strides: [2, 2], auto_pad: 'SAME_LOWER' }),
  always('Conv', ['x', floats([4, 2, 2, 2], 'wg')], { group: 2, dilations: [2, 1] }),
  always('ConvTranspose', ['x', floats([4, 3, 3, 3], 'wt')],
    { strides: [2, 2], output_padding: [1, 1], pads: [1, 1, 1, 1] }),
  always('Gemm', ['m', floats([5, 8], 'a'), bias], { transB: 1, alpha: 0.5, beta: { float: 2 } }),
  [11, LAST, 'Gemm', ['m', floats([8, 5], 'a')]],
  always('MatMul', ['s', floats([4, 5], 'a')]), always('MatMul', ['s', floats([2, 4, 3], 'a')]),
  [7, 10, 'Clip', ['x'], { min: -0.5, max: 0.7 }], [7, 10, 'Clip', ['x'], { max: 0.7 }],
  [11, LAST, 'Clip', ['x', real(-0.5), real(0.7)]], [11, LAST, 'Clip', ['x', '', real(0.7)]],
  [7, 9, 'Dropout', ['x'], { ratio: 0.3 }], [10, 11, 'Dropout', ['x'], { ratio: 0.3 }],
  [12, LAST, 'Dropout', ['x', real(0.3)], { seed: 3 }],
  [12, LAST, 'Dropout', ['x', real(0.3), { ...yes(0), shape: [] }]],
  [7, 12, 'Squeeze', [floats([2, 1, 3, 1], 'thin')], { axes: [1, 3] }],
  [13, LAST, 'Squeeze', [floats([2, 1, 3, 1], 'thin'), ints(1, -1)]],
  [7, 12, 'Unsqueeze', ['s'], { axes: [0, 3] }], [13, LAST, 'Unsqueeze', ['s', ints(0, -2)]],
  [7, 12, 'Split', ['s'], { axis: 2, split: [1, 3] }, 2], [13, LAST, 'Split', ['s', ints(1, 3)], { axis: -1 }, 2],
  [7, 17, 'Split', ['s'], { axis: 2 }, 2], [18, LAST, 'Split', ['s'], { axis: 1, num_outputs: 2 }, 2],
  [7, 12, 'ReduceSum', ['x'], { axes: [1, 3], keepdims: 0 }],
  [13, LAST, 'ReduceSum', ['x', ints(1, -1)], { keepdims: 0 }],
  [13, LAST, 'ReduceSum', ['x'], { noop_with_empty_axes: 1 }], [7, LAST, 'ReduceSum', ['x']],
  ...['L1', 'L2', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare', 'LogSumExp'].flatMap((op) => [
    [7, 17, `Reduce${op}`, ['unit'], { axes: [1] }], [11, 17, `Reduce${op}`, ['unit'], { axes: [-1], keepdims: 0 }],
    [18, LAST, `Reduce${op}`, ['unit', ints(-1)], { keepdims: 0 }]]),
  [7, 17, 'ReduceLogSum', ['positive'], { axes: [2] }], [18, LAST, 'ReduceLogSum', ['positive', ints(2)]],
  [7, 9, 'Slice', ['x'], { axes: [2, 3], starts: [1, -4], ends: [5, 100] }],
  [10, LAST, 'Slice', ['x', ints(1, -4), ints(5, 100), ints(2, 3)]],
  [10, LAST, 'Slice', ['x', ints(4, 0), ints(-100, 6), ints(2, 3), ints(-2, 2)]],
  [7, 10, 'Pad', ['x'], { pads: [0, 0, 1, 2, 0, 0, 0, 1], value: 0.5 }],
  [11, LAST, 'Pad', ['x', ints(0, 0, 1, 2, 0, 0, 0, 1), real(0.5)]],
  [7, 10, 'Pad', ['x'], { pads: [0, 0, 1, 2, 0, 0, 0, 1], mode: 'reflect' }],
  [11, LAST, 'Pad', ['x', ints(0, 0, 1, 2, 0, 0, 0, 1)], { mode: 'edge' }],
  [18, LAST, 'Pad', ['x', ints(1, 2, 0, 1), real(0.5), ints(2, 3)]],
  [19, LAST, 'Pad', ['x', ints(0, 0, 1, 2, 0, 0, 0, 1)], { mode: 'wrap' }],
  [7, 8, 'Upsample', ['x'], { scales: { floats: [1, 1, 2, 2] }, mode: 'nearest' }],
  [9, 9, 'Upsample', ['x', reals(1, 1, 2, 2)], { mode: 'linear' }],
  [10, 10, 'Resize', ['x', reals(1, 1, 2, 2)], { mode: 'nearest' }],
  [10, 10, 'Resize', ['x', reals(1, 1, 2, 2)], { mode: 'linear' }],
  [11, LAST, 'Resize', ['x', reals(), reals(1, 1, 2, 1.5)],
    { mode: 'linear', coordinate_transformation_mode: 'half_pixel' }],
  [11, LAST, 'Resize', ['x', reals(), reals(), ints(2, 4, 9, 4)],
    { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }],
  [13, LAST, 'Resize', ['x', '', '', ints(2, 4, 8, 8)],
    { mode: 'cubic', coordinate_transformation_mode: 'align_corners' }],
  [18, LAST, 'Resize', ['x', '', '', ints(9, 9)],
    { mode: 'linear', axes: [2, 3], keep_aspect_ratio_policy: 'stretch' }],
  always('Softmax', ['x']), always('Softmax', ['s'], { axis: 2 }), always('LogSoftmax', ['s'], { axis: 1 }),
  [11, LAST, 'Softmax', ['s'], { axis: -2 }],
  always('ArgMax', ['s'], { axis: 1, keepdims: 0 }), [12, LAST, 'ArgMin', ['s'], { axis: -1, select_last_index: 1 }],
  always('Cast', ['x'], { to: 6 }), [19, LAST, 'Cast', ['x'], { to: 1, saturate: 1 }],
  [15, LAST, 'CastLike', ['x', ints(1)]],
  always('Concat', ['x', floats([2, 1, 6, 6], 'more')], { axis: 1 }), [11, LAST, 'Concat', ['s', 's'], { axis: -1 }],
  [8, LAST, 'Expand', [floats([3, 1], 'thin'), ints(2, 1, 4)]],
  always('Flatten', ['x'], { axis: 2 }), [11, LAST, 'Flatten', ['x'], { axis: -1 }],
  always('Gather', ['s', ints(2, 0)], { axis: 1 }), [11, LAST, 'Gather', ['s', ints(-1, 0)], { axis: -1 }],
  always('Reshape', ['x', ints(0, -1, 4)]), [14, LAST, 'Reshape', ['x', ints(2, -1)], { allowzero: 1 }],
  always('Shape', ['x']), [15, LAST, 'Shape', ['x'], { start: 1, end: -1 }], always('Size', ['x']),
  always('SpaceToDepth', ['x'], { blocksize: 2 }), always('DepthToSpace', ['x'], { blocksize: 2 }),
  [11, LAST, 'DepthToSpace', ['x'], { blocksize: 2, mode: 'CRD' }],
  always('Tile', ['s', ints(1, 2, 2)]), always('Transpose', ['s'], { perm: [0, 2, 1] }), always('Transpose', ['x']),
  [9, LAST, 'ConstantOfShape', [ints(2, 3)], { value: { tensor: { shape: [1], data: Float32Array.of(1.5) } } }],
  always('Constant', [], { value: { tensor: { shape: [2], data: Float32Array.of(1.5, 2) } } }),
  [12, LAST, 'Constant', [], { value_floats: { floats: [1, 2.5] } }],
  [12, LAST, 'Constant', [], { value_ints: [3, 4] }],
  [12, LAST, 'Constant', [], { value_float: 2.5 }], [12, LAST, 'Constant', [], { value_int: 7 }],
  [9, LAST, 'Where', [{ ...yes(1, 0, 0, 1), shape: [4, 1, 1] }, 'x', 'positive']],
  [11, LAST, 'Range', [int(2), int(11), int(3)]], [11, LAST, 'Round', ['x']],
  [10, LAST, 'ThresholdedRelu', ['x'], { alpha: 0.7 }], [9, LAST, 'Shrink', ['x'], { lambd: 0.7, bias: 0.2 }],
  [12, LAST, 'Celu', ['x'], { alpha: 0.7 }], [14, LAST, 'HardSwish', ['x']], [18, LAST, 'Mish', ['x']],
  [20, LAST, 'Gelu', ['x']], [20, LAST, 'Gelu', ['x'], { approximate: 'tanh' }],
  [14, LAST, 'Trilu', ['x'], { upper: 0 }], [14, LAST, 'Trilu', ['x', int(1)]],
  [10, LAST, 'QuantizeLinear', ['x', real(0.02), { shape: [], data: Uint8Array.of(120) }]],
  [10, LAST, 'DequantizeLinear', [{ shape: [4], data: Uint8Array.of(0, 7, 130, 255) }, real(0.02),
    { shape: [], data: Uint8Array.of(120) }]],
  [13, LAST, 'DequantizeLinear', [{ shape: [2, 2], data: Int8Array.of(0, 7, -128, 127) }, reals(0.02, 0.1)],
    { axis: 0 }],
];

// ---- a network of such calls ----

function network(calls, opset) {
  const m = { opset, ir: opset > 20 ? 10 : 8, nodes: [], tensors: [], outputs: [],
    inputs: Object.entries(GIVEN).map(([name, t]) => ({ name, shape: t.shape })) };
  calls.forEach(([, , op, inputs, attributes = {}, n = 1], i) => {
    const name = `${op}_${i}`;
    const names = inputs.map((x, k) => {
      if (typeof x === 'string') return x;
      m.tensors.push({ name: `${name}_${k}`, ...x });
      return `${name}_${k}`;
    });
    const outputs = Array.from({ length: n }, (_, k) => `${name}_out${k}`);
    m.nodes.push({ op, name, inputs: names, outputs, attributes });
    m.outputs.push(...outputs.map((o) => ({ name: o })));
  });
  return onnx.model(m);
}

async function judge(file, given) {
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 4 });
  const feeds = Object.fromEntries(session.inputNames.map((n) => [n, new ort.Tensor(onnx.TYPES[given[n].type || 1][0],
    given[n].data, given[n].shape)]));
  const answers = await session.run(feeds);
  await session.release();
  return answers;
}

function retort(file, given, anew) {
  const inputs = Object.entries(given).map(([name, t]) => {
    const data = t.plain || t.data; // .npy has no half precision here, and retort takes floats for it
    fs.writeFileSync(path.join(folder, `${name}.npy`), npyWrite(t.shape, data));
    return path.join(folder, `${name}.npy`);
  });
  const out = path.join(folder, 'out.npz');
  const args = ['run', file, ...inputs, '-o', out, '--export', anew];
  const { status, stderr } = child.spawnSync(BINARY, args, { encoding: 'utf8' });
  ok(status === 0, stderr);
  return npzRead(fs.readFileSync(out));
}

// float16 comes as bits.
const from16 = (h) => (h & 0x8000 ? -1 : 1) * (h & 0x7c00 ? (1 + (h & 1023) / 1024) * 2 ** (((h >> 10) & 31) - 15)
  : (h & 1023) * 2 ** -24);
const numbers = (t) => Array.from(t.data, t.type === 'float16' ? from16 : Number);

// The first output that differs, in words.
function difference(truth, mine, relative = RELATIVE) {
  for (const [name, t] of Object.entries(truth)) {
    if (!mine[name]) return `'${name}' is missing`;
    const [a, b] = [JSON.stringify(t.dims), JSON.stringify(mine[name].shape || mine[name].dims)];
    if (a !== b) return `'${name}' has the shape ${b}, should be ${a}`;
    const [right, found] = [numbers(t), numbers(mine[name])];
    const wrong = right.findIndex((v, i) => !(Math.abs(v - found[i]) <= ABSOLUTE + relative * Math.abs(v)));
    if (wrong >= 0) return `'${name}'[${wrong}] is ${found[wrong]}, should be ${right[wrong]}`;
  }
  return '';
}

async function compare(model, given, relative) {
  const [file, anew] = [path.join(folder, 'model.onnx'), path.join(folder, 'anew.onnx')];
  fs.writeFileSync(file, model);
  const truth = await judge(file, given);
  same(difference(truth, retort(file, given, anew), relative), '', 'beside ONNX Runtime');
  same(difference(truth, await judge(anew, given), relative), '', 'written anew');
}

for (let opset = 7; opset <= LAST; opset++) {
  test(`opset ${opset}`, async () => {
    const calls = CALLS.filter(([first, last]) => first <= opset && opset <= last);
    note(`${calls.length} calls of ${new Set(calls.map((c) => c[2])).size} operators`);
    try { await compare(network(calls, opset), GIVEN); } catch (e) {
      for (const call of calls) { // which it is
        try { await compare(network([call], opset), GIVEN); } catch (one) {
          note(`${call[2]} ${JSON.stringify(call[4] || {})}: ${one.message.slice(0, 300)}`);
        }
      }
      throw e;
    }
  });
}

// ---- element types ----

const bits = (v) => new Uint32Array(Float32Array.of(v).buffer)[0];
const brain = (v) => bits(v) >>> 16;
const half = (v) => (v === 0 ? 0
  : ((bits(v) >>> 16) & 0x8000) | ((((bits(v) >>> 23) & 255) - 112) << 10) | ((bits(v) >>> 13) & 0x3ff));

// Numbers that every type has exactly: whole for integers, not negative for those without sign.
function weights(type, shape) {
  const [name, Data] = onnx.TYPES[type];
  const whole = Array.from(floats(shape, 'weights', -60, 60).data, Math.round);
  const values = /^u|bool/.test(name) ? whole.map(Math.abs) : /float/.test(name) ? whole.map((v) => v / 32) : whole;
  const as = { float16: half, bfloat16: brain, bool: (v) => v & 1, int64: BigInt, uint64: BigInt }[name] || ((v) => v);
  return { shape, type: Number(type), data: Data.from(values, as) };
}

// x times the weights, which are kept in another type and made floats by a Cast.
const cast = (type) => onnx.model({ opset: 13, inputs: [{ name: 'x', shape: ['N', 8] }], outputs: [{ name: 'y' }],
  tensors: [{ name: 'w', ...weights(type, [8, 5]) }],
  nodes: [{ op: 'Cast', name: 'cast', inputs: ['w'], outputs: ['floats'], attributes: { to: 1 } },
    { op: 'MatMul', name: 'dense', inputs: ['x', 'floats'], outputs: ['y'] }] });

for (const type of Object.keys(onnx.TYPES)) {
  test(`weights in ${onnx.TYPES[type][0]}, cast to floats`, () => compare(cast(type), { x: floats([3, 8], 'x') }));
}

// Everything in that type: what is given, the weights, what comes out.
const throughout = (type, convolutes) => onnx.model({ opset: 15, outputs: [{ name: 'y' }],
  inputs: [{ name: 'x', shape: ['N', 2, 5, 5], type: Number(type) }],
  tensors: [{ name: 'w', ...weights(type, [2, 2, 1, 1]) }, { name: 'b', ...weights(type, [2]) },
    { name: 'shape', ...ints(0, -1) }, { name: 'dense', ...weights(type, [50, 5]) },
    { name: 'shift', ...weights(type, [5]) }],
  nodes: [{ op: 'Conv', name: 'conv', inputs: ['x', 'w', 'b'], outputs: ['c'] },
    { op: 'Reshape', name: 'flat', inputs: [convolutes ? 'c' : 'x', 'shape'], outputs: ['f'] },
    { op: 'Relu', name: 'relu', inputs: ['f'], outputs: ['r'] },
    { op: 'Gemm', name: 'gemm', inputs: ['r', 'dense', 'shift'], outputs: ['y'] }].slice(convolutes ? 0 : 1) });

test('a network in float16 throughout', async () => {
  const plain = Float32Array.from(floats([3, 2, 5, 5], 'x').data, (v) => Math.round(v * 32) / 32);
  const x = { shape: [3, 2, 5, 5], type: 10, data: Uint16Array.from(plain, half), plain };
  await compare(throughout(10, true), { x }, 1e-3);
});

test('a network in float64 throughout (ONNX Runtime has no convolution for it)', async () => {
  const data = Float64Array.from(floats([3, 2, 5, 5], 'x').data);
  await compare(throughout(11, false), { x: { shape: [3, 2, 5, 5], type: 11, data } });
});

// ---- children ----

// Three dense layers, everything in that type, which opset 7 can say.
const layers = (opset, type) => onnx.model({ opset, ir: 7, inputs: [{ name: 'x', shape: ['N', 8], type }],
  outputs: [{ name: 'y', shape: ['N', 5], type }],
  tensors: [8, 8, 5].flatMap((n, i) => [{ name: `w${i}`, ...weights(type, [n, 8]) },
    { name: `b${i}`, ...weights(type, [n]) }]),
  nodes: [0, 1, 2].flatMap((i) => [
    { op: 'Gemm', name: `fc${i}`, inputs: [i ? `a${i - 1}` : 'x', `w${i}`, `b${i}`], outputs: [i < 2 ? `h${i}` : 'y'],
      attributes: { transB: 1 } },
    ...(i < 2 ? [{ op: 'Relu', name: `relu${i}`, inputs: [`h${i}`], outputs: [`a${i}`] }] : [])]) });

const STRAIGHT = [{ op: 'deepen' }, { op: 'skip', from: '*' }, { op: 'skip', from: '*', mode: 'concat' },
  { op: 'factor', rank: 2 }, { op: 'widen', factor: 1.5 }];
// With a PRelu, which ONNX Runtime does not have in float64.
const STEPS = [...STRAIGHT, { op: 'deepen', mode: 'netmorph' }, { op: 'subnet', mode: 'stacked' },
  { op: 'module', recipe: '1c1' }];
const given = Float32Array.from(floats([4, 8], 'given').data, (v) => Math.round(v * 32) / 32);
const feed = (type) => ({ x: { shape: [4, 8], type,
  data: onnx.TYPES[type][1].from(given, type === 10 ? half : Number) } });
const largest = (list) => list.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
const apart = (a, b) => largest(a.map((v, i) => v - b[i])) / largest(a);
let server;

async function student(spec) {
  const id = await server.submit({ model: 'parent', output: 'child', ...spec });
  const { result } = await server.finished(id);
  return { exact: result.report.proof?.exact, child: await server.student(id) };
}

// A parent in one type has children in another. They are as close as the less precise of both.
function children(words, opset, type, becomes, relative) {
  test(`children of ${words}`, async () => {
    const parent = layers(opset, type), truth = await judge(parent, feed(type));
    await server.must(201, server.put('/v1/models/parent/onnx', parent));
    for (const step of type === 11 ? STRAIGHT : STEPS) {
      const { exact, child } = await student({ method: 'morph', steps: [step] });
      const found = await judge(child, feed(becomes));
      const off = apart(numbers(truth.y), numbers(found.y));
      if (exact) ok(off < relative, `${step.op} ${step.mode || ''}: ${off} apart`);
      same(found.y.type, onnx.TYPES[becomes][0], `${step.op}: what comes out`);
    }
    const { child } = await student({ method: 'train', dataset: 'data', train: { epochs: 1 } });
    same((await judge(child, feed(becomes))).y.type, onnx.TYPES[becomes][0], 'trained');
    await server.must(200, server.request('DELETE', '/v1/models/parent'));
  });
}

test('a server for children', async () => {
  server = await Server.start();
  cleanup(() => server.stop());
  await server.must(201, server.put('/v1/datasets/data/inputs', npyWrite([40, 8], floats([40, 8], 'data').data)));
  const labels = Int32Array.from({ length: 40 }, (_, i) => i % 5);
  await server.must(201, server.put('/v1/datasets/data/labels', npyWrite([40], labels)));
  ok(true, 'ready');
});

for (const opset of [7, 8, 9, 10, 11]) children(`dense layers of opset ${opset}`, opset, 1, 1, 1e-4);
children('a network in float16', 15, 10, 1, 1e-2);
children('a network in float64', 15, 11, 11, 1e-12);
