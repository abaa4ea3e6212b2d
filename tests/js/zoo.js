// zoo.js - the nine architectures of ONNX's `light` set, layer by layer as the model zoo has them (Caffe and Caffe2
// networks, opset 9, IR version 3), with seeded random weights instead of trained ones. The batch is free. Each can also
// be made small, with the same layers: {image: [height, width], width: share of the channels}.
//
// zoo.js NAME FILE [HEIGHT WIDTH SHARE] writes one to a file.
'use strict';

const fs = require('fs');
const { bytes, message, node, number, tensor, value, varint } = require('./onnx');

const PIECE = 1 << 20; // weights made and written at a time

// A network being put together. What a layer makes is {name, shape: [channels, height, width]}; layers are named,
// and nodes, weights and values after them.
class Net {
  constructor(name, { prefix = '', image = [224, 224], width = 1 } = {}) {
    Object.assign(this, { name, prefix, size: image, width, nodes: [], weights: [], settings: [] });
  }

  // So many channels when the network has its full width; groups of two and four divide what there are otherwise.
  at(channels) {
    return this.width === 1 ? channels : 4 * Math.max(channels > 0 ? 1 : 0, Math.round(channels * this.width / 4));
  }

  image(name) {
    this.input = { name: this.prefix + name, shape: [3, ...this.size] };
    return this.input;
  }

  add(op, name, inputs, shape, attributes, more = []) {
    const output = { name: `${this.prefix}${name}_1`, shape };
    this.nodes.push({ op, name: this.prefix + name, inputs: inputs.map((x) => x.name || x),
      outputs: [output.name, ...more], attributes });
    return output;
  }

  // Uniform random numbers; they become an initializer when the file is written.
  weight(name, shape, low, high) {
    this.weights.push({ name: this.prefix + name, shape, low, high });
    return this.prefix + name;
  }

  ints(name, data) {
    this.settings.push({ name: this.prefix + name, shape: [data.length], data: BigInt64Array.from(data, BigInt) });
    return this.prefix + name;
  }

  // He's initialisation: variance 2 / fan-in, times gain squared.
  kernel(name, shape, gain = 1) {
    const bound = gain * Math.sqrt(6 / shape.slice(1).reduce((a, b) => a * b));
    return this.weight(name, shape, -bound, bound);
  }

  conv(x, name, n, k, { stride = 1, pad = 0, group = 1, bias = true, gain = 1, pads = true } = {}) {
    const [c, h, w] = x.shape;
    const size = (s) => Math.floor((s + 2 * pad - k) / stride) + 1;
    const inputs = [x, this.kernel(`${name}_w_0`, [n, c / group, k, k], gain)];
    if (bias) inputs.push(this.weight(`${name}_b_0`, [n], -0.1, 0.1));
    const attributes = { kernel_shape: [k, k], strides: [stride, stride] };
    if (pads) attributes.pads = [pad, pad, pad, pad];
    if (group > 1) attributes.group = group;
    return this.add('Conv', name, inputs, [n, size(h), size(w)], attributes);
  }

  pool(op, x, name, k, stride, pads = [0, 0, 0, 0]) {
    const [c, h, w] = x.shape;
    const [kh, kw] = [k, k].flat();
    const size = (s, window) => Math.floor((s + (pads ? pads[0] + pads[2] : 0) - window) / stride) + 1;
    const attributes = { kernel_shape: [kh, kw], strides: [stride, stride], ...(pads && { pads }) };
    return this.add(op, name, [x], [c, size(h, kh), size(w, kw)], attributes);
  }

  // The mean of the whole map, by a pooling with a kernel as large as that, and as the pads.
  mean(x, name, pads = [0, 0, 0, 0]) {
    const more = pads ? pads[0] + pads[2] : 0;
    return this.pool('AveragePool', x, name, x.shape.slice(1).map((s) => s + more), 1, pads);
  }

  relu(x, name) { return this.add('Relu', `${name}_relu`, [x], x.shape); }

  lrn(x, name, alpha, bias) {
    return this.add('LRN', name, [x], x.shape, { size: 5, alpha, beta: 0.75, bias: { float: bias } });
  }

  // With statistics as if the network had been trained: a mean and a variance that are not 0 and 1.
  norm(x, name, { variance = 1, epsilon = 1e-5, scale = [0.7, 1.3], names = ['s', 'b', 'rm', 'riv'] } = {}) {
    const n = [x.shape[0]], spread = 0.2 * Math.sqrt(variance);
    const inputs = [x, this.weight(`${name}_${names[0]}_0`, n, ...scale),
      this.weight(`${name}_${names[1]}_0`, n, -0.3, 0.5), this.weight(`${name}_${names[2]}_0`, n, -spread, spread),
      this.weight(`${name}_${names[3]}_0`, n, 0.5 * variance, 2 * variance)];
    return this.add('BatchNormalization', name, inputs, x.shape, epsilon ? { epsilon } : {});
  }

  // Caffe's layer Scale: a factor and a shift for each channel, given as vectors.
  scale(x, name) {
    let y = x;
    for (const [op, suffix, low, high] of [['Mul', 'w', 0.7, 1.3], ['Add', 'b', -0.3, 0.5]]) {
      const vector = this.weight(`${name}_${suffix}_0`, [x.shape[0]], low, high);
      const wide = this.add('Unsqueeze', `${name}_${suffix}_wide`, [vector], null, { axes: [1, 2] });
      y = this.add(op, `${name}_${suffix}`, [y, wide], x.shape);
    }
    return y;
  }

  concat(list, name) {
    const channels = list.reduce((n, x) => n + x.shape[0], 0);
    return this.add('Concat', name, list, [channels, ...list[0].shape.slice(1)], { axis: 1 });
  }

  dropout(x, name, ratio = 0.5) {
    return this.add('Dropout', name, [x], x.shape, { ratio }, [`_${name}_mask_1`]);
  }

  flat(x, name) {
    const n = x.shape.reduce((a, b) => a * b);
    return this.add('Reshape', name, [x, this.ints(`${name}_shape`, [0, n])], [n]);
  }

  dense(x, name, n, gain = 1, kernel = null) {
    const w = kernel || this.kernel(`${name}_w_0`, [n, x.shape[0]], gain);
    return this.add('Gemm', name, [x, w, this.weight(`${name}_b_0`, [n], -0.1, 0.1)], [n], { transB: 1 });
  }

  softmax(x, name = 'prob') {
    this.output = this.add('Softmax', name, [x], x.shape);
    return this;
  }
}

// ---- the nine. Where nothing normalises, images of +-128 go through with that size, and `gain` of the last layer
// brings the logits to a few units. ----

function alexnet(more) {
  const n = new Net('bvlc_alexnet', more);
  const conv = (x, name, c, ...rest) => n.relu(n.conv(x, name, n.at(c), ...rest), name);
  const full = (x, i) => n.dropout(n.relu(n.dense(x, `fc${i}`, n.at(4096)), `fc${i}`), `fc${i}_dropout`);
  let x = conv(n.image('data_0'), 'conv1', 96, 11, { stride: 4 });
  x = n.pool('MaxPool', n.lrn(x, 'norm1', 1e-4, 1), 'pool1', 3, 2);
  x = conv(x, 'conv2', 256, 5, { pad: 2, group: 2 });
  x = n.pool('MaxPool', n.lrn(x, 'norm2', 1e-4, 1), 'pool2', 3, 2);
  x = conv(x, 'conv3', 384, 3, { pad: 1 });
  x = conv(x, 'conv4', 384, 3, { pad: 1, group: 2 });
  x = conv(x, 'conv5', 256, 3, { pad: 1, group: 2 });
  x = n.flat(n.pool('MaxPool', x, 'pool5', 3, 2, [0, 0, 1, 1]), 'flat');
  return n.softmax(n.dense(full(full(x, 6), 7), 'fc8', n.at(1000), 0.01));
}

function zfnet512(more) {
  const n = new Net('zfnet512', { prefix: 'gpu_0/', ...more });
  const conv = (x, name, c, ...rest) => n.relu(n.conv(x, name, n.at(c), ...rest), name);
  let x = conv(n.image('data_0'), 'conv1', 96, 7, { stride: 2 });
  x = n.pool('MaxPool', n.lrn(x, 'norm1', 5e-4, 2), 'pool1', 3, 2);
  x = conv(x, 'conv2', 256, 5, { stride: 2 });
  x = n.pool('MaxPool', n.lrn(x, 'norm2', 5e-4, 2), 'pool2', 3, 2);
  for (const i of [3, 4, 5]) x = conv(x, `conv${i}`, 512, 3, { pad: 1 });
  x = n.flat(n.pool('MaxPool', x, 'pool5', 2, 2), 'flat');
  x = n.relu(n.dense(x, 'fc6', n.at(4096)), 'fc6');
  x = n.relu(n.dense(x, 'fc7', n.at(1024)), 'fc7');
  return n.softmax(n.dense(x, 'fc8', n.at(1000), 0.01), 'softmax');
}

function squeezenet(more) {
  const n = new Net('squeezenet', more);
  const conv = (x, name, c, ...rest) => n.relu(n.conv(x, name, n.at(c), ...rest), name);
  const fire = (x, i, small, large) => {
    const s = conv(x, `fire${i}/squeeze1x1`, small, 1);
    return n.concat([conv(s, `fire${i}/expand1x1`, large, 1), conv(s, `fire${i}/expand3x3`, large, 3, { pad: 1 })],
      `fire${i}/concat`);
  };
  let x = n.pool('MaxPool', conv(n.image('data_0'), 'conv1', 64, 3, { stride: 2 }), 'pool1', 3, 2);
  x = n.pool('MaxPool', fire(fire(x, 2, 16, 64), 3, 16, 64), 'pool3', 3, 2);
  x = n.pool('MaxPool', fire(fire(x, 4, 32, 128), 5, 32, 128), 'pool5', 3, 2);
  [48, 48, 64, 64].forEach((small, i) => { x = fire(x, 6 + i, small, 4 * small); });
  x = conv(n.dropout(x, 'drop9'), 'conv10', 1000, 1, { gain: 0.01 });
  return n.softmax(n.add('GlobalAveragePool', 'pool10', [x], [x.shape[0], 1, 1]), 'softmaxout');
}

function vgg19(more) {
  const n = new Net('vgg19', more);
  let x = n.image('data_0');
  [[64, 2], [128, 2], [256, 4], [512, 4], [512, 4]].forEach(([channels, layers], i) => {
    for (let k = 1; k <= layers; k++) {
      const name = `conv${i + 1}_${k}`;
      x = n.relu(n.conv(x, name, n.at(channels), 3, { pad: 1 }), name);
    }
    x = n.pool('MaxPool', x, `pool${i + 1}`, 2, 2);
  });
  x = n.flat(x, 'flat');
  for (const i of [6, 7]) x = n.dropout(n.relu(n.dense(x, `fc${i}`, n.at(4096)), `fc${i}`), `fc${i}_dropout`);
  return n.softmax(n.dense(x, 'fc8', n.at(1000), 0.01));
}

function inceptionV1(more) {
  const n = new Net('inception_v1', more);
  const conv = (x, name, c, ...rest) => n.relu(n.conv(x, name, n.at(c), ...rest), name);
  const inception = (x, id, [one, reduce3, three, reduce5, five, proj]) => {
    const at = (name) => `inception_${id}/${name}`;
    const wide = [conv(x, at('1x1'), one, 1)];
    wide.push(conv(conv(x, at('3x3_reduce'), reduce3, 1), at('3x3'), three, 3, { pad: 1 }));
    wide.push(conv(conv(x, at('5x5_reduce'), reduce5, 1), at('5x5'), five, 5, { pad: 2 }));
    wide.push(conv(n.pool('MaxPool', x, at('pool'), 3, 1, [1, 1, 1, 1]), at('pool_proj'), proj, 1));
    return n.concat(wide, at('output'));
  };
  let x = conv(n.image('data_0'), 'conv1/7x7_s2', 64, 7, { stride: 2, pad: 3 });
  x = n.lrn(n.pool('MaxPool', x, 'pool1/3x3_s2', 3, 2), 'pool1/norm1', 1e-4, 1);
  x = conv(conv(x, 'conv2/3x3_reduce', 64, 1), 'conv2/3x3', 192, 3, { pad: 1 });
  x = n.pool('MaxPool', n.lrn(x, 'conv2/norm2', 1e-4, 1), 'pool2/3x3_s2', 3, 2);
  x = inception(x, '3a', [64, 96, 128, 16, 32, 32]);
  x = n.pool('MaxPool', inception(x, '3b', [128, 128, 192, 32, 96, 64]), 'pool3/3x3_s2', 3, 2);
  x = inception(x, '4a', [192, 96, 208, 16, 48, 64]);
  x = inception(x, '4b', [160, 112, 224, 24, 64, 64]);
  x = inception(x, '4c', [128, 128, 256, 24, 64, 64]);
  x = inception(x, '4d', [112, 144, 288, 32, 64, 64]);
  x = n.pool('MaxPool', inception(x, '4e', [256, 160, 320, 32, 128, 128]), 'pool4/3x3_s2', 3, 2);
  x = inception(x, '5a', [256, 160, 320, 32, 128, 128]);
  x = inception(x, '5b', [384, 192, 384, 48, 128, 128]);
  x = n.dropout(n.mean(x, 'pool5/7x7_s1', [0, 0, 1, 1]), 'pool5/drop', 0.4);
  x = n.flat(x, 'flat');
  // the classifier's weights are kept with four axes
  const size = [n.at(1000), x.shape[0]];
  const kernel = n.weight('loss3/classifier_w_0', [1, 1, ...size], -8e-4, 8e-4);
  const flat = n.add('Reshape', 'loss3/classifier_w', [kernel, n.ints('loss3/classifier_shape', size)], null);
  return n.softmax(n.dense(x, 'loss3/classifier', size[0], 1, flat));
}

function inceptionV2(more) {
  const n = new Net('inception_v2', more);
  const names = ['scale', 'bias', 'mean', 'var'];
  const conv = (x, name, channels, k, stride = 1, pad = (k - 1) / 2, variance = 1) => {
    const y = n.conv(x, name, n.at(channels), k, { stride, pad, bias: false });
    return n.relu(n.scale(n.norm(y, `${name}/bn`, { variance, names }), `${name}/bn/sc`), name);
  };
  // 1x1, 3x3, two times 3x3, and a pooling with its projection; with stride 2, the first and the last are left out
  const inception = (x, id, [one, reduce3, three, reduceD, double], pool, proj) => {
    const at = (name) => `inception_${id}/${name}`, stride = one ? 1 : 2;
    const wide = one ? [conv(x, at('1x1'), one, 1)] : [];
    wide.push(conv(conv(x, at('3x3_reduce'), reduce3, 1), at('3x3'), three, 3, stride));
    const d = conv(conv(x, at('double3x3_reduce'), reduceD, 1), at('double3x3a'), double, 3);
    wide.push(conv(d, at('double3x3b'), double, 3, stride));
    const p = n.pool(pool, x, at('pool'), 3, stride, one ? [1, 1, 1, 1] : [0, 0, 1, 1]);
    wide.push(proj ? conv(p, at('pool_proj'), proj, 1) : p);
    return n.concat(wide, at('output'));
  };
  let x = conv(n.image('data_0'), 'conv1/7x7_s2', 64, 7, 2, 3, 1e4);
  x = n.pool('MaxPool', x, 'pool1/3x3_s2', 3, 2, [0, 0, 1, 1]);
  x = conv(conv(x, 'conv2/3x3_reduce', 64, 1), 'conv2/3x3', 192, 3);
  x = n.pool('MaxPool', x, 'pool2/3x3_s2', 3, 2, [0, 0, 1, 1]);
  x = inception(x, '3a', [64, 64, 64, 64, 96], 'AveragePool', 32);
  x = inception(x, '3b', [64, 64, 96, 64, 96], 'AveragePool', 64);
  x = inception(x, '3c', [0, 128, 160, 64, 96], 'MaxPool', 0);
  x = inception(x, '4a', [224, 64, 96, 96, 128], 'AveragePool', 128);
  x = inception(x, '4b', [192, 96, 128, 96, 128], 'AveragePool', 128);
  x = inception(x, '4c', [160, 128, 160, 128, 160], 'AveragePool', 96);
  x = inception(x, '4d', [96, 128, 192, 160, 192], 'AveragePool', 96);
  x = inception(x, '4e', [0, 128, 192, 192, 256], 'MaxPool', 0);
  x = inception(x, '5a', [352, 192, 320, 160, 224], 'AveragePool', 128);
  x = inception(x, '5b', [352, 192, 320, 192, 224], 'MaxPool', 128);
  x = n.flat(n.mean(x, 'global_pool'), 'flat');
  return n.softmax(n.dense(x, 'fc', n.at(1000)));
}

function resnet50(more) {
  const n = new Net('resnet50', { prefix: 'gpu_0/', ...more });
  const conv = (x, name, channels, k, more = {}, norm = {}) =>
    n.norm(n.conv(x, name, channels, k, { pad: (k - 1) / 2, bias: false, ...more }), `${name}_bn`, norm);
  const block = (x, name, channels, stride, projects) => {
    let y = n.relu(conv(x, `${name}_branch2a`, channels, 1), `${name}_branch2a`);
    y = n.relu(conv(y, `${name}_branch2b`, channels, 3, { stride }), `${name}_branch2b`);
    y = conv(y, `${name}_branch2c`, 4 * channels, 1, {}, { scale: [0.3, 0.6] });
    const beside = projects ? conv(x, `${name}_branch1`, 4 * channels, 1, { stride, pads: false }) : x;
    return n.relu(n.add('Sum', `${name}_sum`, [y, beside], y.shape), name);
  };
  let x = n.relu(conv(n.image('data_0'), 'res_conv1', n.at(64), 7, { stride: 2 }, { variance: 1e4 }), 'res_conv1');
  x = n.pool('MaxPool', x, 'pool1', 3, 2, [1, 1, 1, 1]);
  [3, 4, 6, 3].forEach((blocks, stage) => {
    for (let i = 0; i < blocks; i++)
      x = block(x, `res${stage + 2}_${i}`, n.at(64 << stage), i === 0 && stage > 0 ? 2 : 1, i === 0);
  });
  x = n.flat(n.mean(x, 'final_avg', null), 'flat');
  return n.softmax(n.dense(x, 'pred', n.at(1000)), 'softmax');
}

function shufflenet(more) {
  const n = new Net('shufflenet', { prefix: 'gpu_0/', ...more });
  const groups = 4;
  const conv = (x, name, channels, k, more = {}, norm = {}) =>
    n.norm(n.conv(x, name, channels, k, { pad: (k - 1) / 2, bias: false, ...more }), `${name}_bn`,
      { epsilon: 0, ...norm });
  const shuffle = (x, name) => {
    const [c, h, w] = x.shape;
    let y = n.add('Reshape', `${name}_split`, [x, n.ints(`${name}_split_shape`, [0, groups, c / groups, h, w])], null);
    y = n.add('Transpose', `${name}_turn`, [y], null, { perm: [0, 2, 1, 3, 4] });
    return n.add('Reshape', name, [y, n.ints(`${name}_shape`, [0, c, h, w])], x.shape);
  };
  const unit = (x, name, channels, stride) => {
    const beside = stride > 1;
    const inner = beside ? channels - x.shape[0] : channels;
    let y = n.relu(conv(x, `${name}_conv1`, inner, 1, { group: groups }), `${name}_conv1`);
    y = conv(shuffle(y, `${name}_shuffle`), `${name}_conv2`, inner, 3, { stride, group: inner });
    y = conv(y, `${name}_conv3`, inner, 1, { group: groups }, { scale: [0.3, 0.6] });
    y = beside ? n.concat([y, n.pool('AveragePool', x, `${name}_pool`, 3, 2, [1, 1, 1, 1])], `${name}_concat`)
      : n.add('Sum', `${name}_sum`, [y, x], y.shape);
    return n.relu(y, name);
  };
  let x = conv(n.image('data_0'), 'conv3_0', n.at(24), 3, { stride: 2, bias: true }, { variance: 1e4 });
  x = n.pool('MaxPool', n.relu(x, 'conv3_0'), 'pool', 3, 2, [1, 1, 1, 1]);
  [4, 8, 4].forEach((units, stage) => {
    for (let i = 0; i < units; i++) x = unit(x, `stage${stage + 2}_${i}`, n.at(136 << stage), i === 0 ? 2 : 1);
  });
  x = n.flat(n.mean(x, 'final_avg', null), 'flat');
  return n.softmax(n.dense(x, 'pred', n.at(1000)), 'softmax');
}

function densenet121(more) {
  const n = new Net('densenet121', more);
  const names = ['scale', 'bias', 'mean', 'var'];
  const act = (x, name, variance = 1) =>
    n.relu(n.scale(n.norm(x, `${name}/bn`, { variance, names }), `${name}/bn`), name);
  const conv = (x, name, channels, k, more = {}) =>
    n.conv(x, name, channels, k, { pad: (k - 1) / 2, bias: false, ...more });
  let x = act(conv(n.image('data_0'), 'conv1', n.at(64), 7, { stride: 2 }), 'conv1', 1e4);
  x = n.pool('MaxPool', x, 'pool1', 3, 2, [1, 1, 1, 1]);
  [6, 12, 24, 16].forEach((layers, stage) => {
    for (let i = 1; i <= layers; i++) {
      const at = (name) => `conv${stage + 2}_${i}/${name}`;
      let y = conv(act(x, at('x1')), `${at('x1')}/conv`, n.at(128), 1);
      y = conv(act(y, at('x2')), `${at('x2')}/conv`, n.at(32), 3);
      x = n.concat([x, y], `concat_${stage + 2}_${i}`);
    }
    const name = `conv${stage + 2}_blk`;
    x = act(x, name);
    if (stage === 3) return;
    x = n.pool('AveragePool', conv(x, `${name}/conv`, x.shape[0] / 2, 1), `pool${stage + 2}`, 2, 2);
  });
  x = n.add('GlobalAveragePool', 'pool5', [x], [x.shape[0], 1, 1]);
  n.output = conv(x, 'fc6', n.at(1000), 1, { bias: true });
  return n;
}

// ---- the file ----

// FNV-1a: every tensor has random numbers of its own, which do not depend on what else is in the file.
function seed(name) {
  let h = 0x811c9dc5;
  for (const c of Buffer.from(name)) h = Math.imul(h ^ c, 0x01000193);
  return h || 1;
}

// Fills the array with uniform numbers; gives the state to go on with (xorshift32).
function fill(out, state, low, high) {
  const factor = (high - low) / 4294967296;
  let s = state;
  for (let i = 0; i < out.length; i++) {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    out[i] = low + (s >>> 0) * factor;
  }
  return s;
}

const count = (w) => w.shape.reduce((a, b) => a * b, 1);

// What comes before the elements of a weight in the file.
function head(w) {
  const size = 4 * count(w);
  const inner = Buffer.concat([...w.shape.map((d) => number(1, d)), number(2, 1), bytes(8, w.name),
    varint((9 << 3) | 2), varint(size)]);
  return Buffer.concat([varint((5 << 3) | 2), varint(inner.length + size), inner]);
}

// Writes the network piece by piece: its weights may be larger than a buffer can be. Up to IR version 3, initializers
// are inputs too.
function save(file, net) {
  const weights = net.weights.map((w) => ({ ...w, head: head(w) }));
  const input = (w, type) => value(11, { name: w.name, shape: w.shape, type });
  const rest = Buffer.concat([...net.nodes.map(node), bytes(2, net.name), ...net.settings.map((t) => tensor(5, t)),
    value(11, { name: net.input.name, shape: ['N', ...net.input.shape] }), ...net.weights.map((w) => input(w)),
    ...net.settings.map((t) => input(t, 7)), value(12, { name: net.output.name, shape: ['N', ...net.output.shape] })]);
  const size = weights.reduce((n, w) => n + w.head.length + 4 * count(w), rest.length);
  const out = fs.openSync(file, 'w');
  fs.writeSync(out, Buffer.concat([number(1, 3), bytes(2, 'zoo'), message(8, [bytes(1, ''), number(2, 9)]),
    varint((7 << 3) | 2), varint(size), rest]));
  const piece = new Float32Array(PIECE);
  for (const w of weights) {
    fs.writeSync(out, w.head);
    let state = seed(w.name);
    for (let left = count(w); left > 0; left -= PIECE) {
      const part = piece.subarray(0, Math.min(left, PIECE));
      state = fill(part, state, w.low, w.high);
      fs.writeSync(out, Buffer.from(part.buffer, 0, part.byteLength));
    }
  }
  fs.closeSync(out);
}

const ARCHITECTURES = { bvlc_alexnet: alexnet, densenet121, inception_v1: inceptionV1, inception_v2: inceptionV2,
  resnet50, shufflenet, squeezenet, vgg19, zfnet512 };

function write([name, file, height = '224', width = '224', share = '1']) {
  save(file, ARCHITECTURES[name]({ image: [Number(height), Number(width)], width: Number(share) }));
}

if (require.main === module) write(process.argv.slice(2));

module.exports = { ARCHITECTURES, count, fill, save, seed };
