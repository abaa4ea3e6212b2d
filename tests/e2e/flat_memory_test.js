#!/usr/bin/env node
// flat_memory_test.js - a body of 1 GiB goes in and comes out, and the server's memory does not follow it.
'use strict';

const crypto = require('crypto');
const http = require('http');
const { Readable } = require('stream');
const { cleanup, note, ok, same, test } = require('../js/tap');
const { npyHeader } = require('../js/arrays');
const { SANITIZED, Server } = require('../js/retort');

const MIB = 1 << 20;
const N_PIECES = 1024;
const LIMIT_MIB = 64;
const header = npyHeader('|u1', [N_PIECES, MIB]);

// The body's pieces: random bytes with a number in front, so that no two are alike.
function* pieces() {
  yield header;
  const noise = crypto.createHash('shake256', { outputLength: MIB }).update('retort').digest();
  for (let i = 0; i < N_PIECES; i++) {
    const piece = Buffer.from(noise);
    piece.writeUInt32LE(i, 0);
    yield piece;
  }
}

function download(server, target) {
  return new Promise((done, fail) => {
    http.get(server.url + target, (answer) => {
      const hash = crypto.createHash('sha256');
      let size = 0;
      answer.on('data', (d) => { hash.update(d); size += d.length; });
      answer.on('end', () => done({ status: answer.statusCode, size, digest: hash.digest('hex') }));
      answer.on('error', fail);
    }).on('error', fail);
  });
}

let server;

test('1 GiB is PUT', async () => {
  server = await Server.start();
  cleanup(() => server.stop());
  const t0 = Date.now();
  const r = await server.put('/v1/datasets/big/inputs', Readable.from(pieces()),
    { 'content-length': header.length + N_PIECES * MIB });
  same(r.status, 201, `status (${r.body.toString().slice(0, 300)})`);
  const peak = server.memory('VmHWM') / 1024;
  note(`${((Date.now() - t0) / 1000).toFixed(1)} s, peak memory of the server ${peak.toFixed(1)} MiB`);
  ok(SANITIZED || peak < LIMIT_MIB, `the server took ${peak} MiB`);
});

test('1 GiB is downloaded again, with the same bytes', async () => {
  const expected = crypto.createHash('sha256');
  for (const piece of pieces()) expected.update(piece);
  const t0 = Date.now();
  const r = await download(server, '/v1/datasets/big/inputs');
  const peak = server.memory('VmHWM') / 1024;
  note(`${((Date.now() - t0) / 1000).toFixed(1)} s, peak memory of the server ${peak.toFixed(1)} MiB`);
  same(r.status, 200, 'status');
  ok(Math.abs(r.size - N_PIECES * MIB) <= 4096, `${r.size} bytes came back`);
  if (r.size === header.length + N_PIECES * MIB) same(r.digest, expected.digest('hex'), 'digest');
  else ok(false, 'the header of the array changed its length');
  ok(SANITIZED || peak < LIMIT_MIB, `the server took ${peak} MiB`);
});
