// resnet.js - a residual network like ResNet-20, with few channels and half the pixels, as ONNX.
'use strict';

const { model } = require('../../tests/js/onnx');

// `blocks` blocks in each of three stages of c, 2c, 4c channels; a projection where the stage changes. The weights are all
// alike: training draws its own.
function resnet({ c = 8, blocks = 3, classes = 10 }) {
  const nodes = [], tensors = [];
  const constant = (name, shape, x) => {
    tensors.push({ name, shape, data: new Array(shape.reduce((a, b) => a * b, 1)).fill(x) });
    return name;
  };
  const add = (op, name, inputs, attributes) => {
    nodes.push({ op, name, inputs, outputs: [`${name}_out`], attributes });
    return `${name}_out`;
  };
  const conv = (x, name, from, to, k, stride) => {
    const y = add('Conv', name, [x, constant(`${name}.weight`, [to, from, k, k], 0.01)],
      { kernel_shape: [k, k], strides: [stride, stride], pads: new Array(4).fill((k - 1) / 2) });
    return add('BatchNormalization', `${name}_bn`, [y, ...[['weight', 1], ['bias', 0], ['mean', 0], ['var', 1]].map(([part, v]) =>
      constant(`${name}_bn.${part}`, [to], v))]);
  };
  let x = add('Relu', 'stem_relu', [conv('input', 'stem', 1, c, 3, 2)]), from = c, n = 0;
  for (let stage = 0; stage < 3; stage++) {
    const to = c << stage;
    for (let b = 0; b < blocks; b++) {
      const stride = stage && !b ? 2 : 1, at = ++n;
      const y = add('Relu', `relu${at}a`, [conv(x, `conv${at}a`, from, to, 3, stride)]);
      const z = conv(y, `conv${at}b`, to, to, 3, 1);
      const shortcut = stride > 1 ? conv(x, `project${at}`, from, to, 1, stride) : x;
      x = add('Relu', `relu${at}b`, [add('Add', `add${at}`, [z, shortcut])]);
      from = to;
    }
  }
  x = add('Flatten', 'flat', [add('GlobalAveragePool', 'pool', [x])]);
  constant('head.weight', [classes, from], 0.01);
  constant('head.bias', [classes], 0);
  nodes.push({ op: 'Gemm', name: 'head', inputs: [x, 'head.weight', 'head.bias'], outputs: ['logits'], attributes: { transB: 1 } });
  return model({ nodes, tensors, opset: 15, ir: 8, inputs: [{ name: 'input', shape: ['N', 1, 28, 28] }],
    outputs: [{ name: 'logits', shape: ['N', classes] }] });
}

module.exports = { resnet };
