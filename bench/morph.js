#!/usr/bin/env node
// morph.js - what surgery on ResNet-50 takes: the network is made by tests/js/zoo.js, bench/morph.c applies each step to
// it several times. Prints a table and writes bench/morph.md.
//
//   node bench/morph.js MORPH [--rounds N] [--model FILE] [--no-write]
//
// MORPH is the built bench/morph.c. FILE is another ResNet-50 with the same names.
'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { ARCHITECTURES, save } = require('../tests/js/zoo');

const options = { rounds: 9, model: '', write: true };
let program;
for (let i = 2; i < process.argv.length; i++) {
  const word = process.argv[i];
  if (word === '--no-write') options.write = false;
  else if (word === '--model') options.model = process.argv[++i];
  else if (word.startsWith('--')) options[word.slice(2)] = Number(process.argv[++i]);
  else program = path.resolve(word);
}

// branch2a, 2b, 2c are the three convolutions of a block, 1x1, 3x3, 1x1.
const STEPS = [
  ['widen 1.5', { op: 'widen', layer: '*', factor: 1.5 }],
  ['deepen identity', { op: 'deepen', layer: '*', mode: 'identity' }],
  ['kernel 3x3 to 5x5', { op: 'kernel', layer: '*branch2b', size: 5 }],
  ['fold', { op: 'fold', layer: '*' }],
  ['skip from block to block', { op: 'skip', layer: '*branch2a', from: '*branch2a' }],
];
const HEAD = ['step', 'layers', 'least s', 'median s', 'parent MB', 'child MB', 'peak memory / (parent + child)'];

function row([name], line) {
  const [least, middle, , parent, child, share, layers] = line.split(' ').map(Number);
  return [name, layers, least.toFixed(3), middle.toFixed(3), (parent / 1e6).toFixed(0), (child / 1e6).toFixed(0), share.toFixed(2)];
}

function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'retort-bench-'));
  const file = options.model || path.join(folder, 'resnet50.onnx');
  if (!options.model) save(file, ARCHITECTURES.resnet50());
  const words = [file, String(options.rounds), ...STEPS.map(([, step]) => JSON.stringify(step))];
  const lines = execFileSync(program, words).toString().trim().split('\n');
  fs.rmSync(folder, { recursive: true });
  const table = [HEAD, HEAD.map(() => '---'), ...STEPS.map((step, i) => row(step, lines[i]))]
    .map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  console.log(table);
  if (!options.write) return;
  const text = `# Surgery on ResNet-50

Made by \`make bench-morph\`: ONNX's own ResNet-50 (25.6 million parameters, drawn at random), each step on a copy of it, ${options.rounds} rounds. Seconds are
of all there is to do but the proof: copy, change, round to single precision, write the ONNX file (to a sink that counts
its bytes and keeps none). Layers are those that the step changes. Memory is what the process has at most, the parent
included, as a share of the two files' sizes; below 1 where the child shares arrays with its parent.
Machine: ${os.cpus().length} x ${os.cpus()[0].model}.

${table}
`;
  fs.writeFileSync(path.join(__dirname, 'morph.md'), text);
}

main();
