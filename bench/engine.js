#!/usr/bin/env node
// engine.js - retort beside PyTorch and ONNX Runtime on the reference networks, in turn, several rounds; every program
// at its best number of threads. Prints a table of ratios (median, and the lowest and highest round) and writes
// bench/engine.md.
//
//   node bench/engine.js STEP [--rounds N] [--seconds S] [--only NAME,...] [--no-write]
//
// STEP is the built bench/step.c.
'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const options = { rounds: 5, seconds: 1, only: '', write: true };
let step;
for (let i = 2; i < process.argv.length; i++) {
  const word = process.argv[i];
  if (word === '--no-write') options.write = false;
  else if (word === '--only') options.only = process.argv[++i];
  else if (word.startsWith('--')) options[word.slice(2)] = Number(process.argv[++i]);
  else step = path.resolve(word);
}

const here = (file) => path.join(__dirname, file);
const run = (program, ...args) => execFileSync(program, args.map(String), { stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim();
const numbers = (text) => text.split(/\s+/).map(Number);
const python = (...args) => run('/usr/bin/python3', here('torch_nets.py'), ...args);

// One round of one network: [step ms, forward ms, single us] of each program.
function measure(folder, { name, batch, shape }) {
  const file = path.join(folder, `${name}.onnx`);
  const torch = numbers(python('time', name, options.seconds));
  const ort = numbers(run('node', here('ort_net.js'), file, batch, shape, options.seconds));
  const threads = [1, 2].map((n) => numbers(run(step, file, batch, n, options.seconds)));
  const retort = [0, 1, 2].map((k) => Math.min(...threads.map((t) => t[k])));
  return { torch, ort: [NaN, ...ort], retort };
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const ratio = (rounds, figure, peer) => {
  const all = rounds.map((r) => r.retort[figure] / r[peer][figure]);
  return `${median(all).toFixed(2)} (${Math.min(...all).toFixed(2)}-${Math.max(...all).toFixed(2)})`;
};
const time = (rounds, figure, program) => median(rounds.map((r) => r[program][figure])).toPrecision(3);

function row(net, rounds) {
  return [net.name, net.batch,
    time(rounds, 0, 'torch'), time(rounds, 0, 'retort'), ratio(rounds, 0, 'torch'),
    time(rounds, 1, 'ort'), time(rounds, 1, 'retort'), ratio(rounds, 1, 'ort'),
    time(rounds, 2, 'ort'), time(rounds, 2, 'retort'), ratio(rounds, 2, 'ort')];
}

const HEAD = ['network', 'batch', 'step: PyTorch ms', 'retort ms', 'ratio', 'forward: ONNX Runtime ms', 'retort ms', 'ratio',
  'one sample: ONNX Runtime us', 'retort us', 'ratio'];

function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'retort-bench-'));
  python('export', folder);
  const nets = python('list').split('\n').map((line) => line.split(' '))
    .map(([name, batch, shape]) => ({ name, batch: Number(batch), shape }))
    .filter((net) => !options.only || options.only.split(',').includes(net.name));
  const found = Object.fromEntries(nets.map((net) => [net.name, []]));
  for (let round = 1; round <= options.rounds; round++) {
    for (const net of nets) {
      found[net.name].push(measure(folder, net));
      const { torch, ort, retort } = found[net.name].at(-1);
      console.error(`round ${round}, ${net.name}: torch ${torch}  ort ${ort.slice(1)}  retort ${retort}`);
    }
  }
  fs.rmSync(folder, { recursive: true });
  const lines = [HEAD, HEAD.map(() => '---'), ...nets.map((net) => row(net, found[net.name]))].map((r) => `| ${r.join(' | ')} |`);
  const table = lines.join('\n');
  console.log(table);
  if (!options.write) return;
  const text = `# The engine beside its peers

Made by \`make bench\`: ${options.rounds} rounds, the programs in turn, each at its better number of threads (1 or 2) and PyTorch in
its better memory format. Times are medians; ratios are retort's time over the peer's: median (lowest-highest round).
Machine: ${os.cpus().length} x ${os.cpus()[0].model}.

${table}
`;
  fs.writeFileSync(here('engine.md'), text);
}

main();
