#!/usr/bin/env node
// engine.js - retort beside PyTorch and ONNX Runtime on the reference networks, in turn, several rounds; every program
// at its best number of threads. Prints a table of ratios (median, and the lowest and highest round) and writes
// bench/engine.md. Beside each time stands how fast that is as a share of what the machine's cores reach together in
// products of large matrices, measured in the same round.
//
//   node bench/engine.js STEP [--rounds N] [--seconds S] [--only NAME,...] [--no-write]
//
// STEP is the built bench/step.c.
'use strict';

const { execFileSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const { ARCHITECTURES, save } = require('../tests/js/zoo');

const options = { rounds: 5, seconds: 1, only: '', write: true };
let step;
for (let i = 2; i < process.argv.length; i++) {
  const word = process.argv[i];
  if (word === '--no-write') options.write = false;
  else if (word === '--only') options.only = process.argv[++i];
  else if (word.startsWith('--')) options[word.slice(2)] = Number(process.argv[++i]);
  else step = path.resolve(word);
}

// ONNX's own architecture, forward only; tests/js/zoo.js makes it.
const LARGE = { name: 'resnet50', batch: 8, shape: '3,224,224', forwardOnly: true };

const here = (file) => path.join(__dirname, file);
const run = (program, ...args) => execFileSync(program, args.map(String), { stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim();
const numbers = (text) => text.split(/\s+/).map(Number);
const python = (...args) => run('/usr/bin/python3', here('torch_nets.py'), ...args);

// One round of one network: [step ms, forward ms, single us] of each program, and GFLOP/s at best.
function measure(folder, { name, batch, shape, forwardOnly }) {
  const file = path.join(folder, `${name}.onnx`);
  const torch = forwardOnly ? [NaN, NaN, NaN] : numbers(python('time', name, options.seconds));
  const ort = numbers(run('node', here('ort_net.js'), file, batch, shape, options.seconds));
  const settings = [1, 2].map((n) => [file, batch, n, options.seconds, ...(forwardOnly ? ['forward'] : [])]);
  const threads = settings.map((words) => numbers(run(step, ...words)));
  const retort = [0, 1, 2].map((k) => Math.min(...threads.map((t) => t[k])));
  const peak = Number(run(step, 'peak', os.cpus().length, 0.3));
  return { torch, ort: [NaN, ...ort], retort, peak, macs: threads[0][3] };
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const ratio = (rounds, figure, peer) => {
  const all = rounds.map((r) => r.retort[figure] / r[peer][figure]);
  return `${median(all).toFixed(2)} (${Math.min(...all).toFixed(2)}-${Math.max(...all).toFixed(2)})`;
};
const time = (rounds, figure, program) => median(rounds.map((r) => r[program][figure])).toPrecision(3);

// Two operations per multiply-add; a step takes three times those of forward. The figures' units in seconds.
const SECONDS = [1e-3, 1e-3, 1e-6];
function share(net, rounds, figure) {
  const work = (r) => 2 * r.macs * [3 * net.batch, net.batch, 1][figure];
  return `${Math.round(median(rounds.map((r) => work(r) / (r.retort[figure] * SECONDS[figure]) / (r.peak * 1e9))) * 100)} %`;
}

const compare = (net, rounds, figure, peer) => (Number.isNaN(rounds[0][peer][figure]) ? ['', '', '', '']
  : [time(rounds, figure, peer), time(rounds, figure, 'retort'), ratio(rounds, figure, peer), share(net, rounds, figure)]);

const row = (net, rounds) => [net.name, net.batch, ...compare(net, rounds, 0, 'torch'), ...compare(net, rounds, 1, 'ort'),
  ...compare(net, rounds, 2, 'ort')];

const HEAD = ['network', 'batch', 'step: PyTorch ms', 'retort ms', 'ratio', 'of peak', 'forward: ONNX Runtime ms', 'retort ms',
  'ratio', 'of peak', 'one sample: ONNX Runtime us', 'retort us', 'ratio', 'of peak'];

function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'retort-bench-'));
  python('export', folder);
  save(path.join(folder, `${LARGE.name}.onnx`), ARCHITECTURES[LARGE.name]());
  const nets = python('list').split('\n').map((line) => line.split(' '))
    .map(([name, batch, shape]) => ({ name, batch: Number(batch), shape }))
    .concat(LARGE)
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
  const peak = Math.round(median(Object.values(found).flat().map((r) => r.peak)));
  const text = `# The engine beside its peers

Made by \`make bench\`: ${options.rounds} rounds, the programs in turn, each at its better number of threads (1 or 2) and PyTorch in
its better memory format. Times are medians; ratios are retort's time over the peer's: median (lowest-highest round).
"Of peak" is the speed of the arithmetic (two operations per multiply-add of the direct formulas, three passes a step) as
a share of what the machine reaches in products of 1024 x 1024 matrices on all cores, ${peak} GFLOP/s; it may be more than
100 % where fewer operations do (3x3 convolutions by Winograd's filtering).
Machine: ${os.cpus().length} x ${os.cpus()[0].model}.

${table}
`;
  fs.writeFileSync(here('engine.md'), text);
}

main();
