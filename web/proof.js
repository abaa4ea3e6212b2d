// proof.js - what a morph did to a network, and how far the child is from its parent.

import { card, h } from './dom.js';
import { exact, number } from './format.js';

const SHOWN = 6; // parameters and layers that are named

function verdict(proof) {
  if (!proof.exact) return h('p.notice', 'Not the same function: what follows is how far apart they are.');
  const learns = proof.trainable ? 'every new parameter learns' : 'not every new parameter learns';
  return h('p', `The same function, proved on ${exact(proof.samples)} samples of each kind of input; ${learns}.`);
}

const COLUMNS = ['Largest difference', 'Mean', 'Relative', 'Allowed'];

// Of the parts of a map, only the differences are known; what is allowed means nothing where nothing was claimed.
function deviationRow(label, d, claimed) {
  return d && h('tr', h('th', { scope: 'row' }, label),
    [d.max_abs, d.mean_abs, d.relative, claimed ? d.tolerance : undefined].map((value, i) => value !== undefined
      && h('td', { class: i === 3 && 'muted', 'data-label': COLUMNS[i] }, number(value))));
}

function deviations(proof) {
  const training = proof.training?.expected ? proof.training : null;
  const data = (proof.inputs ?? []).find(({ kind }) => kind === 'data');
  const columns = COLUMNS.slice(0, proof.exact ? 4 : 3);
  const rows = [['Inference, double', proof.float64], ['\u2003border of the maps', proof.border],
    ['\u2003interior of the maps', proof.interior], ['Inference, single', proof.float32], ['Training, double', training?.float64],
    ['On the data set, double', data?.float64], ['On the data set, single', data?.float32]];
  return h('table.comparison.stacked',
    h('thead', h('tr', h('td'), columns.map((text) => h('th', { scope: 'col' }, text)))),
    h('tbody', rows.map(([label, d]) => deviationRow(label, d, proof.exact))));
}

const some = (names) => names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '');

function stepLine(step) {
  const refused = step.refused?.length ? `; ${step.refused.length} could not be changed` : '';
  return h('li', h('b', [step.op, step.mode].filter(Boolean).join(' ')), ` of ${some(step.layers ?? [])}${refused}`);
}

const LISTED = 500; // gradients that a report has at most

// The new parameter that learns least; zeros of a new layer may begin only when others have moved.
function slowest(gradients) {
  const [least] = gradients.filter((g) => !g.dead).sort((a, b) => a.norm - b.norm || a.norm_later - b.norm_later);
  if (!least) return null;
  const among = gradients.length < LISTED ? 'of the new parameters' : `of the ${LISTED} new parameters in the report`;
  const later = least.norm === 0 ? `, and ${number(least.norm_later)} after some steps` : '';
  return h('p', `Smallest gradient ${among}: norm ${number(least.norm)}${later}, `, h('code', least.parameter), '.');
}

// Exact steps before and after lossy ones have proofs of their own.
function exactSteps(steps) {
  const proofs = steps.map((s) => s.proof).filter(Boolean);
  if (!proofs.length) return null;
  const most = Math.max(...proofs.map((p) => p.max_abs));
  return h('p', `The exact steps keep the function: outputs differ by at most ${number(most)}, proved on `
    + `${exact(proofs[0].samples)} samples of each kind of input.`);
}

function notes({ proof, steps }) {
  const dead = (proof.gradients ?? []).filter((g) => g.dead).map((g) => g.parameter);
  const reason = proof.training && !proof.training.expected && proof.training.reason;
  const first = proof.first_difference;
  const classes = proof.divergence;
  return [
    exactSteps(steps),
    classes && h('p', `The classes of ${exact(classes.samples)} samples: KL divergence ${number(classes.mean)}, `
      + `the same best one for ${number(100 * classes.same_argmax)} %.`),
    reason && h('p.muted', `In training they may differ: ${reason}.`),
    slowest(proof.gradients ?? []),
    dead.length > 0 && h('p.notice', `Never get a gradient: ${some(dead)}`),
    first?.node && h('p.notice', `They part at ${first.node}${first.last_equal ? `, equal up to ${first.last_equal}` : ''}.`),
  ];
}

// The card of a morph's report; null for other jobs.
export function proofCard(job) {
  const report = job.result?.report;
  if (!report?.proof) return null;
  return card('Proof', verdict(report.proof), deviations(report.proof), notes(report),
    h('ol.changes', report.steps.map(stepLine)));
}
