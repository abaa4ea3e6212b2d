// onnx.js - writes small ONNX files, right ones and wrong ones, by hand: protobuf is numbered fields, nothing more.
'use strict';

function varint(value) {
  let v = BigInt.asUintN(64, BigInt(value));
  const out = [];
  do {
    const more = v > 127n;
    out.push(Number(v & 127n) | (more ? 128 : 0));
    v >>= 7n;
  } while (v > 0n);
  return Buffer.from(out);
}

const number = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field, value) => {
  const body = Buffer.from(value);
  return Buffer.concat([varint((field << 3) | 2), varint(body.length), body]);
};
const message = (field, parts) => bytes(field, Buffer.concat(parts));

// ONNX's element types as ONNX Runtime calls them.
const TYPES = { 1: ['float32', Float32Array], 2: ['uint8', Uint8Array], 3: ['int8', Int8Array],
  4: ['uint16', Uint16Array], 5: ['int16', Int16Array], 6: ['int32', Int32Array], 7: ['int64', BigInt64Array],
  9: ['bool', Uint8Array], 10: ['float16', Uint16Array], 11: ['float64', Float64Array], 12: ['uint32', Uint32Array],
  13: ['uint64', BigUint64Array], 16: ['bfloat16', Uint16Array] };

const typeOf = (data) => Number(Object.keys(TYPES).find((k) => TYPES[k][1] === data.constructor));

// {name, shape, data, type}: a tensor, raw little-endian. The type is that of the data: a plain list is float.
function tensor(field, t) {
  const data = Array.isArray(t.data) ? Float32Array.from(t.data) : t.data;
  return message(field, [...t.shape.map((d) => number(1, d)), number(2, t.type || typeOf(data)), bytes(8, t.name || ''),
    bytes(9, Buffer.from(data.buffer, data.byteOffset, data.byteLength))]);
}

// {name, shape, type}: a dimension is a number or a name; the type is float unless given. An output may have a name
// only.
function value(field, v) {
  if (!v.shape) return message(field, [bytes(1, v.name)]);
  const dims = v.shape.map((d) => message(1, [typeof d === 'number' ? number(1, d) : bytes(2, d)]));
  return message(field, [bytes(1, v.name), message(2, [message(1, [number(1, v.type || 1), message(2, dims)])])]);
}

function float(field, v) {
  const out = Buffer.alloc(4);
  out.writeFloatLE(v);
  return Buffer.concat([varint((field << 3) | 5), out]);
}

// Lists and whole numbers are integers, other numbers floats; {float: 1} is a float that happens to be whole,
// {floats: [..]} a list of floats; {tensor: ..} and text are what they are.
function attribute([name, v]) {
  const typed = (type, ...parts) => message(5, [bytes(1, name), ...parts, number(20, type)]);
  if (Array.isArray(v)) return typed(7, ...v.map((i) => number(8, i)));
  if (typeof v === 'string') return typed(3, bytes(4, v));
  if (v.floats) return typed(6, ...v.floats.map((f) => float(7, f)));
  if (v.tensor) return typed(4, tensor(5, v.tensor));
  if (Number.isInteger(v)) return typed(2, number(3, v));
  return typed(1, float(2, v.float ?? v));
}

// {op, name, inputs, outputs, attributes}
function node(n) {
  return message(1, [...n.inputs.map((i) => bytes(1, i)), ...n.outputs.map((o) => bytes(2, o)), bytes(3, n.name),
    bytes(4, n.op), ...Object.entries(n.attributes || {}).map(attribute)]);
}

// ---- reading ----

// [number, value] for every field of a message: bytes, or a BigInt.
function* fields(buffer) {
  let at = 0;
  const variable = () => {
    let v = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const b = buffer[at++];
      v |= BigInt(b & 127) << shift;
      if (b < 128) return v;
    }
  };
  while (at < buffer.length) {
    const tag = Number(variable());
    const size = { 1: () => 8, 2: () => Number(variable()), 5: () => 4 }[tag & 7];
    if (!size) yield [tag >> 3, variable()];
    else {
      const n = size();
      yield [tag >> 3, buffer.subarray(at, at + n)];
      at += n;
    }
  }
}

// {name, type, shape, data} of a tensor in a file of its own; null when its type is none of those.
function tensorRead(buffer) {
  const shape = [], parts = [];
  let type, raw, name = '';
  for (const [field, v] of fields(buffer)) {
    if (field === 1) shape.push(...(typeof v === 'bigint' ? [v] : integers(v)));
    else if (field === 2) type = Number(v);
    else if (field === 8) name = v.toString();
    else if (field === 9) raw = v;
    else if ([4, 5, 7, 10, 11].includes(field)) parts.push([field, v]);
  }
  if (!TYPES[type]) return null;
  const [kind, Data] = TYPES[type];
  if (!raw && parts.length && [4, 10].includes(parts[0][0])) raw = Buffer.concat(parts.map((p) => p[1]));
  const wide = Data === BigInt64Array || Data === BigUint64Array;
  const listed = () => parts.flatMap(([, v]) => (typeof v === 'bigint' ? [v] : integers(v)))
    .map((v) => (wide ? v : Number(v)));
  const data = raw ? new Data(Uint8Array.from(raw).buffer) : Data.from(listed());
  return { name, type: kind, shape: shape.map(Number), data };
}

function integers(packed) {
  const out = [];
  let v = 0n, shift = 0n;
  for (const b of packed) {
    v |= BigInt(b & 127) << shift;
    shift += 7n;
    if (b >= 128) continue;
    out.push(BigInt.asIntN(64, v));
    v = shift = 0n;
  }
  return out;
}

// {nodes, tensors, inputs, outputs, opset, ir}
function model(m) {
  const graph = [...m.nodes.map(node), bytes(2, 'graph'), ...m.tensors.map((t) => tensor(5, t)),
    ...m.inputs.map((v) => value(11, v)), ...m.outputs.map((v) => value(12, v))];
  return Buffer.concat([number(1, m.ir || 7), bytes(2, 'tests'), message(7, graph),
    message(8, [bytes(1, ''), number(2, m.opset || 13)])]);
}

// A dense network over [N,features], its weights from a small congruential generator; `change` may spoil it.
function dense({ features, classes, hidden = 8, change = (m) => m }) {
  let state = 12345;
  const random = () => { state = (state * 1103515245 + 12345) % 2147483648; return state / 2147483648 - 0.5; };
  const weights = (name, shape) => ({ name, shape, data: Array.from({ length: shape.reduce((a, b) => a * b) }, random) });
  return model(change({
    nodes: [
      { op: 'Flatten', name: 'flat', inputs: ['input'], outputs: ['f'] },
      { op: 'Gemm', name: 'fc1', inputs: ['f', 'w1', 'b1'], outputs: ['h'], attributes: { transB: 1 } },
      { op: 'Relu', name: 'act', inputs: ['h'], outputs: ['a'] },
      { op: 'Gemm', name: 'fc2', inputs: ['a', 'w2', 'b2'], outputs: ['logits'], attributes: { transB: 1 } },
    ],
    tensors: [weights('w1', [hidden, features]), weights('b1', [hidden]), weights('w2', [classes, hidden]),
      weights('b2', [classes])],
    inputs: [{ name: 'input', shape: ['N', features] }],
    outputs: [{ name: 'logits', shape: ['N', classes] }],
  }));
}

module.exports = { TYPES, bytes, dense, message, model, node, number, tensor, tensorRead, value, varint };
