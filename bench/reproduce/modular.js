// modular.js - Modularized Morphing (Wei et al. 2017): modules in the place of the shortcuts of a residual network.
'use strict';

const f = require('./figures');
const { resnet } = require('./resnet');

const CHANNELS = 8, BLOCKS = 3;
// Of the paper, for ResNet-20 on CIFAR-10: error in %, FLOP beside the parent's, error of the same network from scratch.
const PAPER_PARENT = 8.75;
const PAPER = {
  '1c1': { error: 7.35, flop: 1.08, scratch: 8.01 },
  '3c1': { error: 7.10, flop: 1.38 },
  '3c3': { error: 6.97, flop: 1.69 },
  '1c1_2branch': { error: 7.26, flop: 1.15, scratch: 7.90 },
};
const FULL = Object.keys(PAPER);
const RECIPES = FULL.flatMap((name) => [name, `${name}-half`]);

const WEIGHT = 1.3; // a budget of this network takes longer than one of part 1
const share = (s) => WEIGHT * (1 + (1 + RECIPES.length) * s.child + FULL.length * (1 + s.child));

async function recipe(lab, name, { data, seed, budget, teacher }) {
  const s = lab.settings;
  const morph = await lab.run(name, { data, seed, budget: budget * s.child, rate: s.rate * s.restart, model: teacher.model,
    units: WEIGHT * s.child, steps: [{ op: 'module', layer: 'add*', recipe: name }] });
  const scratch = FULL.includes(name) ? await lab.run(`${name}, from scratch`, { data, seed, budget: budget * (1 + s.child), rate: s.rate,
    units: WEIGHT * (1 + s.child), student: { model: morph.model, init: 'random' } }) : null;
  return { morph, scratch };
}

async function run(lab, seeds) {
  const s = lab.settings, data = await lab.dataset('Fashion-MNIST'), all = [];
  const stored = await lab.put('resnet', resnet({ c: CHANNELS, blocks: s.quick ? 1 : BLOCKS }));
  for (const seed of seeds) {
    const student = { model: stored, init: 'random' };
    const { macs } = await lab.size({ method: 'train', ...data, student });
    const budget = lab.budget(s.resnet_steps, macs);
    const teacher = await lab.run('the residual parent', { data, seed, budget, rate: s.rate, units: WEIGHT, student });
    const context = { data, seed, budget, teacher };
    const [further, ...found] = await Promise.all([
      lab.run('the residual parent, trained on', { data, seed, budget: budget * s.child, rate: s.rate * s.restart, units: WEIGHT * s.child,
        model: teacher.model }),
      ...RECIPES.map((name) => recipe(lab, name, context))]);
    all.push({ teacher, further, ...Object.fromEntries(RECIPES.map((name, i) => [name, found[i]])) });
  }
  return all;
}

// ---- the page ----

function page(all, s) {
  const acc = (of) => all.map((x) => of(x).accuracy), error = (of) => f.percent(acc(of).map((a) => 1 - a));
  const p = all[0].teacher, flop = (name) => all[0][name].morph.macs / p.macs;
  const gain = (name) => f.percent(all.map((x) => (x[name].morph.accuracy - x.teacher.accuracy) / (1 - x.teacher.accuracy)));
  const rows = RECIPES.map((name) => {
    const paper = PAPER[name];
    return [`morph_${name}`, flop(name).toFixed(2), paper ? paper.flop.toFixed(2) : '–', all.every((x) => x[name].morph.proof) ? 'yes' : 'no',
      error((x) => x[name].morph), all[0][name].scratch ? error((x) => x[name].scratch) : '–', gain(name),
      paper ? paper.error.toFixed(2) : '–', paper && paper.scratch ? paper.scratch.toFixed(2) : '–',
      paper ? `${(100 * (PAPER_PARENT - paper.error) / PAPER_PARENT).toFixed(1)}` : '–'];
  });
  return ['## 3. Modularized Morphing', '',
    `Fashion-MNIST. The parent is a residual network of ${s.quick ? 3 : 9} blocks like ResNet-20, ${[1, 2, 4].map((k) => k * CHANNELS).join(', ')} channels on ` +
    `14x14 pixels: ${f.big(p.macs)} multiply-adds, ${f.big(p.parameters)} parameters, trained for ${p.steps} steps to an error of ${error((x) => x.teacher)} %; ` +
    `trained on for as much as its children, ${error((x) => x.further)} %. The modules have no normalisation inside and a PRelu where the paper has ` +
    'normalisation and PRelu; blocks that begin a stage have a projection and stay as they are; the paper had crops and flips, many more ' +
    'epochs, and its columns are of ResNet-20 on CIFAR-10. Its networks from scratch got fewer epochs than the morphed ones had in total; here ' +
    'both have spent the same.', '',
    ...f.table(['network', 'FLOP ratio', "paper's", 'proved equal', 'error, %', 'from scratch, %', 'relative gain, %', "paper's error, %", "paper's from scratch, %",
      "paper's relative gain, %"], rows),
    ...FULL.map((name) => `- morph_${name} has ${flop(name).toFixed(2)} of its parent's FLOP, the paper's ${PAPER[name].flop.toFixed(2)}: ` +
      `**${Math.abs(flop(name) - PAPER[name].flop) <= 0.1 * PAPER[name].flop ? 'reproduces' : 'does not reproduce'}** (within a tenth).`),
    ...RECIPES.flatMap((name) => [
      ...(PAPER[name] ? [f.better(acc((x) => x[name].morph), acc((x) => x.teacher), `morph_${name}`, 'its parent'),
        f.better(acc((x) => x[name].morph), acc((x) => x[name].scratch), `morph_${name}`, 'from scratch, as much spent in total,')] : []),
      f.compare(acc((x) => x[name].morph), acc((x) => x.further), `morph_${name}`, 'the parent, trained on for as much,')]),
    ''];
}

module.exports = { run, page, share };
