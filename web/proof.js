// proof.js - what a morph did to a network, and how far the child is from its parent.

import { card, h } from './dom.js';
import { exact, number } from './format.js';

const SHOWN = 6; // parameters and layers that are named

function verdict(proof) {
  if (!proof.exact) return h('p.notice', 'Not the same function: what follows is how far apart they are.');
  const learns = proof.trainable ? 'every new parameter learns' : 'not every new parameter learns';
  return h('p', `The same function, proved on ${exact(proof.samples)} samples of each kind of input; ${learns}.`);
}

function deviationRow(label, d) {
  return d && h('tr', h('th', { scope: 'row' }, label), h('td', number(d.max_abs)), h('td', number(d.relative)),
    h('td.muted', number(d.tolerance)));
}

function deviations(proof) {
  const training = proof.training?.expected ? proof.training : null;
  return h('table.comparison',
    h('thead', h('tr', h('td'), ['Largest difference', 'Relative', 'Allowed'].map((text) => h('th', { scope: 'col' }, text)))),
    h('tbody',
      deviationRow('Inference, double', proof.float64), deviationRow('Inference, single', proof.float32),
      deviationRow('Training, double', training?.float64),
      (proof.inputs ?? []).filter(({ kind }) => kind === 'data').map((on) => deviationRow('On the data set, double', on.float64))));
}

const some = (names) => names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '');

function stepLine(step) {
  const refused = step.refused?.length ? `; ${step.refused.length} could not be changed` : '';
  return h('li', h('b', [step.op, step.mode].filter(Boolean).join(' ')), ` of ${some(step.layers ?? [])}${refused}`);
}

function notes(proof) {
  const dead = (proof.gradients ?? []).filter((g) => g.dead).map((g) => g.parameter);
  const reason = proof.training && !proof.training.expected && proof.training.reason;
  const first = proof.first_difference;
  const classes = proof.divergence;
  return [
    classes && h('p', `The classes of ${exact(classes.samples)} samples: KL divergence ${number(classes.mean)}, `
      + `the same best one for ${number(100 * classes.same_argmax)} %.`),
    reason && h('p.muted', `In training they may differ: ${reason}.`),
    dead.length > 0 && h('p.notice', `Never get a gradient: ${some(dead)}`),
    first?.node && h('p.notice', `They part at ${first.node}${first.last_equal ? `, equal up to ${first.last_equal}` : ''}.`),
  ];
}

// The card of a morph's report; null for other jobs.
export function proofCard(job) {
  const report = job.result?.report;
  if (!report?.proof) return null;
  return card('Proof', verdict(report.proof), deviations(report.proof), notes(report.proof),
    h('ol.changes', report.steps.map(stepLine)));
}
