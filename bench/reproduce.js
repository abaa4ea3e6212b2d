#!/usr/bin/env node
// reproduce.js - what the papers on morphing claim, tried with retort over its API: Net2Net, Network Morphism, Modularized
// Morphing, and the way back. Starts a server of its own, prints how far it is, writes docs/reproduce.md.
//
//   node bench/reproduce.js [RETORT] [--seeds N] [--first SEED] [--part 1..4] [--quick] [--no-write] [--raw FILE]
//                          [--settings JSON]
//
// --quick: one seed, a few images and steps; it shows that everything runs, not what comes out.
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');

const options = { seeds: 3, first: 11, write: true };
for (let i = 2; i < process.argv.length; i++) {
  const word = process.argv[i];
  if (word === '--no-write') options.write = false;
  else if (word === '--quick') options.quick = true;
  else if (word === '--raw') options.raw = process.argv[++i];
  else if (word === '--settings') options.settings = JSON.parse(process.argv[++i]);
  else if (word.startsWith('--')) options[word.slice(2)] = Number(process.argv[++i]);
  else process.env.RETORT = path.resolve(word);
}

const { Lab } = require('./reproduce/lab');

const PARTS = ['net2net', 'netmorph', 'modular', 'roundtrip'].map((name) => require(`./reproduce/${name}`));

// students, small_child, child: budget of the children of parts 1, 2, and 3 and 4, in the parent's; restart: their learning
// rate, in the parent's, part by part (one number with --settings serves all).
const FULL = { images: 12800, tests: 10000, batch: 128, teacher_steps: 800, small_steps: 400, resnet_steps: 600,
  students: 2, small_child: 3, child: 1, rate: 0.004, restart: [0.25, 1, 1, 1] };
const QUICK = { images: 512, tests: 256, batch: 128, teacher_steps: 12, small_steps: 12, resnet_steps: 4,
  students: 0.5, small_child: 0.5, child: 0.5, rate: 0.004, restart: [0.25, 1, 1, 1], quick: true };

async function main() {
  const settings = { ...(options.quick ? QUICK : FULL), ...options.settings };
  const seeds = Array.from({ length: options.quick ? 1 : options.seeds }, (_, i) => options.first + i);
  const parts = options.part ? [PARTS[options.part - 1]] : PARTS;
  const of = (part) => ({ ...settings, restart: [].concat(settings.restart)[PARTS.indexOf(part)] ?? settings.restart });
  settings.units = seeds.length * parts.map((p) => p.share(settings)).reduce((a, b) => a + b);
  const lab = await Lab.open(settings), lines = [], raw = {};
  for (const part of parts) {
    lab.settings = of(part);
    const t0 = Date.now(), found = await part.run(lab, seeds);
    console.error(`part ${PARTS.indexOf(part) + 1}: ${((Date.now() - t0) / 1000).toFixed(0)} s`);
    raw[PARTS.indexOf(part) + 1] = found;
    lines.push(...part.page(found, lab.settings));
  }
  const minutes = (Date.now() - lab.started) / 60000;
  await lab.close();
  const text = [...intro(settings, seeds, minutes), ...lines].join('\n');
  console.log(text);
  if (options.raw) fs.writeFileSync(options.raw, JSON.stringify(raw));
  if (!options.write || options.quick || options.part || options.settings) return;
  fs.mkdirSync(path.join(__dirname, '../docs'), { recursive: true });
  fs.writeFileSync(path.join(__dirname, '../docs/reproduce.md'), text);
}

function intro(s, seeds, minutes) {
  return ['# What morphing is good for, measured', '',
    'Claims of three papers, tried on small networks: Net2Net (Chen et al. 2016), Network Morphism (Wei et al. 2016), Modularized Morphing ' +
    '(Wei et al. 2017). Written by `make reproduce-morph`; nothing below is claimed by hand.', '',
    `The first ${s.images.toLocaleString('en')} training images, accuracy on the first ${s.tests.toLocaleString('en')} test images, Adam at ${s.rate} with a cosine schedule ` +
    `for parents and what starts from scratch, at the share of it that each part names for what goes on, batches of ${s.batch}, without augmentation. ` +
    'Rate and shares were tried on another seed (bench/NOTES.md). Children go on with the parent\'s optimizer, mapped, so what is new in ' +
    'them rests for a hundred steps; what was written back with other weights, or starts from scratch, starts with a fresh one. ' +
    `Seeds ${seeds.join(', ')}: each has ` +
    'its own parent; numbers are mean ± standard deviation over them. What is compared has the same seed. Compute is counted in ' +
    'multiply-adds: samples x those of the network x 3, for forward and backward.', '',
    'Verdicts are computed. A claim reproduces when every seed shows it and the mean difference is larger than the standard deviation ' +
    `between seeds; the opposite likewise; all else is undecided. What no paper claims is called better or worse by the same rule. ${seeds.length} seeds and networks of this size say little about large ones.`, '',
    `${minutes.toFixed(0)} minutes on ${os.cpus().length} cores (${os.cpus()[0].model.trim()}).`, ''];
}

// So that the server goes too.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

main().catch((e) => { console.error(e.stack); process.exit(1); });
