// arrays.js - .npy, .npz, safetensors and IDX in a few lines each, written apart from retort's own readers so that one can judge
// the other.
'use strict';

const fs = require('fs');
const zlib = require('zlib');

const DTYPES = {
  '<f4': Float32Array, '<f8': Float64Array, '|u1': Uint8Array, '|i1': Int8Array, '|b1': Uint8Array,
  '<i4': Int32Array, '<i8': BigInt64Array, '<u2': Uint16Array, '<i2': Int16Array,
};

function npyRead(bytes) {
  if (bytes.toString('latin1', 0, 6) !== '\x93NUMPY') throw new Error('not an .npy file');
  const wide = bytes[6] > 1;
  const size = wide ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8);
  const start = wide ? 12 : 10;
  const header = bytes.toString('latin1', start, start + size);
  const dtype = /'descr': *'([^']+)'/.exec(header)[1];
  const shape = /'shape': *\(([^)]*)\)/.exec(header)[1].split(',').filter((s) => s.trim()).map(Number);
  if (/'fortran_order': *True/.test(header)) throw new Error('Fortran order');
  const Kind = DTYPES[dtype];
  if (!Kind) throw new Error(`dtype ${dtype}`);
  const body = Uint8Array.prototype.slice.call(bytes, start + size);
  const n = shape.reduce((a, b) => a * b, 1);
  return { shape, dtype, data: new Kind(body.buffer, 0, n) };
}

function npyHeader(dtype, shape) {
  let text = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${shape.join(', ')}${shape.length === 1 ? ',' : ''}), }`;
  text = text.padEnd(64 * Math.ceil((text.length + 11) / 64) - 11) + '\n';
  const head = Buffer.from('\x93NUMPY\x01\x00\x00\x00' + text, 'latin1');
  head.writeUInt16LE(text.length, 8);
  return head;
}

function npyWrite(shape, data) {
  const dtype = Object.keys(DTYPES).find((k) => DTYPES[k] === data.constructor);
  return Buffer.concat([npyHeader(dtype, shape), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}

// {name: array} of an .npz file, through its central directory.
function npzRead(bytes) {
  const end = bytes.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  const count = bytes.readUInt16LE(end + 10);
  let at = bytes.readUInt32LE(end + 16);
  const arrays = {};
  for (let i = 0; i < count; i++) {
    const [nameSize, extraSize, noteSize] = [28, 30, 32].map((o) => bytes.readUInt16LE(at + o));
    const name = bytes.toString('utf8', at + 46, at + 46 + nameSize);
    let packed = bytes.readUInt32LE(at + 20);
    let local = bytes.readUInt32LE(at + 42);
    for (let x = at + 46 + nameSize, stop = x + extraSize; x < stop; x += 4 + bytes.readUInt16LE(x + 2)) {
      if (bytes.readUInt16LE(x) !== 1) continue; // ZIP64: the fields that did not fit, in order
      let field = x + 4;
      if (bytes.readUInt32LE(at + 24) === 0xffffffff) field += 8;
      if (packed === 0xffffffff) { packed = Number(bytes.readBigUInt64LE(field)); field += 8; }
      if (local === 0xffffffff) local = Number(bytes.readBigUInt64LE(field));
    }
    const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    const stored = bytes.subarray(start, start + packed);
    const plain = bytes.readUInt16LE(at + 10) === 0 ? stored : zlib.inflateRawSync(stored);
    arrays[name.replace(/\.npy$/, '')] = npyRead(plain);
    at += 46 + nameSize + extraSize + noteSize;
  }
  return arrays;
}

function crc32(bytes) {
  let crc = ~0;
  for (const b of bytes) {
    crc ^= b;
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

// A zip of [{name, bytes}], or of {name, packed, size, crc} for a member that lies about itself.
function zipWrite(members) {
  const locals = [];
  const central = [];
  let at = 0;
  for (const m of members) {
    const name = Buffer.from(m.name);
    const packed = m.packed || zlib.deflateRawSync(m.bytes);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(8, 4);
    fields.writeUInt32LE(m.packed ? m.crc : crc32(m.bytes), 10);
    fields.writeUInt32LE(packed.length, 14);
    fields.writeUInt32LE(m.packed ? m.size : m.bytes.length, 18);
    fields.writeUInt16LE(name.length, 22);
    locals.push(Buffer.from('PK\x03\x04', 'latin1'), fields, name, packed);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(at, 10);
    central.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), fields, tail, name);
    at += 30 + name.length + packed.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...locals, directory, end]);
}

const TENSORS = {
  F32: Float32Array, F64: Float64Array, U8: Uint8Array, I8: Int8Array, BOOL: Uint8Array, I32: Int32Array,
  I64: BigInt64Array, U16: Uint16Array, I16: Int16Array,
};

// {name: {dtype, shape, data}} of a safetensors file; what the format promises is checked.
function tensorsRead(bytes) {
  const size = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + size));
  const data = new Uint8Array(bytes.subarray(8 + size)); // a copy, so that its parts have buffers of their own
  delete header.__metadata__;
  let at = 0;
  for (const t of Object.values(header).sort((a, b) => a.data_offsets[0] - b.data_offsets[0])) {
    const n = t.shape.reduce((a, b) => a * b, 1);
    if (t.data_offsets[0] !== at) throw new Error(`a tensor begins at ${t.data_offsets[0]}, not at ${at}`);
    at = t.data_offsets[1];
    t.data = new TENSORS[t.dtype](data.slice(...t.data_offsets).buffer);
    if (t.data.length !== n) throw new Error(`${t.data.length} elements for [${t.shape}]`);
  }
  if (at !== data.length) throw new Error(`${data.length} bytes of data, not ${at}`);
  if ((8 + size) % 8) throw new Error('the data is not aligned');
  return header;
}

// A safetensors file from a header and its data, whatever they say.
function tensorsFile(header, data = Buffer.alloc(0)) {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([size, text, data]);
}

// One of {name: {shape, data, dtype}}; `dtype` only where the array's own kind leaves it open.
function tensorsWrite(tensors, metadata) {
  const header = metadata ? { __metadata__: metadata } : {};
  const parts = [];
  let at = 0;
  for (const [name, { shape, data, dtype }] of Object.entries(tensors)) {
    const kind = dtype || Object.keys(TENSORS).find((k) => TENSORS[k] === data.constructor);
    header[name] = { dtype: kind, shape, data_offsets: [at, at + data.byteLength] };
    parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    at += data.byteLength;
  }
  return tensorsFile(header, Buffer.concat(parts));
}

function idxRead(file) {
  let bytes = fs.readFileSync(file);
  if (bytes[0] === 0x1f) bytes = zlib.gunzipSync(bytes);
  const shape = Array.from({ length: bytes[3] }, (_, i) => bytes.readUInt32BE(4 + 4 * i));
  return { shape, data: Uint8Array.prototype.slice.call(bytes, 4 + 4 * shape.length) };
}

// The first n entries of an IDX file, gzipped again.
function idxCut(file, n) {
  const { shape, data } = idxRead(file);
  const each = data.length / shape[0];
  const head = Buffer.alloc(4 + 4 * shape.length);
  head[2] = 8;
  head[3] = shape.length;
  [n, ...shape.slice(1)].forEach((d, i) => head.writeUInt32BE(d, 4 + 4 * i));
  return zlib.gzipSync(Buffer.concat([head, Buffer.from(data.buffer, 0, n * each)]), { level: 1 });
}

module.exports = {
  npyRead, npyHeader, npyWrite, npzRead, zipWrite, tensorsRead, tensorsFile, tensorsWrite, idxRead, idxCut,
};
