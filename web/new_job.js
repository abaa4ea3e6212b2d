// new_job.js - starting a job: choose the method, fill its form, check, start.

import { get, page, post } from './api.js';
import { announce, card, copyButton, freshId, h, pageHead, replace } from './dom.js';
import { count } from './format.js';
import { methodForm, showFaults } from './form.js';
import { suggestedScale } from './form_hints.js';
import { guarded, problemBox } from './problems.js';
import { comparisonTable, sizeRows } from './result.js';
import { curl } from './start.js';

export async function newJobPage(place, { query, signal }) {
  const [methods, models, datasets, from] = await Promise.all([
    get('v1/methods', signal),
    page('v1/models', { limit: 1000, signal }),
    page('v1/datasets', { limit: 1000, signal }),
    query.has('from') ? get(`v1/jobs/${query.get('from')}`, signal) : null]);
  const known = methods.items;
  const wanted = from?.method ?? query.get('method') ?? 'distill';
  const method = known.find(({ name }) => name === wanted) ?? known[0];
  const stored = { models: models.items, datasets: datasets.items };
  replace(place, pageHead('New job'), missingNote(stored), jobForm(known, stored, method, startValues(from, query, method)));
}

function missingNote({ models, datasets }) {
  if (models.length && datasets.length) return null;
  return h('p.notice',
    !models.length && ['There is no model yet: ', h('a', { href: '#/models' }, 'upload the teacher'), ' first. '],
    !datasets.length && ['There is no data set yet: ', h('a', { href: '#/datasets' }, 'upload one'), '.']);
}

// What another job or a link fills in.
function startValues(from, query, method) {
  if (from) return { values: from.spec, fresh: false };
  const names = method.parameters.map(({ name }) => name);
  const values = {};
  if (query.has('teacher')) values[names.includes('teacher') ? 'teacher' : 'model'] = query.get('teacher');
  if (query.has('dataset')) values.dataset = query.get('dataset');
  return { values, fresh: true };
}

// The references that the pickers offer.
function references({ models, datasets }) {
  const modelRefs = models.flatMap((model) => {
        const refs = [model.name, ...Object.keys(model.aliases ?? {}).map((alias) => `${model.name}@${alias}`)];
    return refs.map((ref) => ({ ref, label: `${ref} (${count(model.parameters)})` }));
  });
  return { model: modelRefs, dataset: datasets.map(({ name }) => ({ ref: name, label: name })) };
}

function jobForm(methods, stored, firstMethod, start) {
  const holder = h('div');
  const preview = h('code');
  const desk = { method: firstMethod, fields: null, notice: h('div'), outcome: h('div') };
  const body = () => ({ method: desk.method.name, ...desk.fields.value() });
  const refresh = () => { preview.textContent = curl.job(body()); };

  function choose(method, { values, fresh }) {
    desk.method = method;
    desk.fields = methodForm(method, references(stored), { values, fresh });
    replace(holder, desk.fields.element);
    suggestScale(desk.fields, stored.datasets);
    desk.notice.replaceChildren();
    desk.outcome.replaceChildren();
    refresh();
  }
  choose(firstMethod, start);
  const form = h('form.job-form', { novalidate: true },
    methodPicker(methods, firstMethod, (method) => choose(method, { values: desk.fields.value() ?? {}, fresh: true })),
    h('div.columns', h('div.wide', holder), h('div.narrow.sticky', actionsCard(desk, body, preview))));
  form.addEventListener('input', () => queueMicrotask(refresh));
  form.addEventListener('change', () => { suggestScale(desk.fields, stored.datasets); refresh(); });
  form.addEventListener('submit', (event) => { event.preventDefault(); startJob(desk, body, event.submitter); });
  return form;
}

function methodPicker(methods, chosen, onchoose) {
  const help = h('p.muted', chosen.help);
  const group = freshId('method');
  const options = methods.map((method) => {
    const input = h('input.hidden-visually', { type: 'radio', name: group, value: method.name, checked: method === chosen });
    input.addEventListener('change', () => { help.textContent = method.help; onchoose(method); });
    return h('label.segment', input, h('span', method.name.replaceAll('_', ' ')));
  });
  return h('fieldset.method-picker', h('legend', 'Method'), h('div.segments', options), help);
}

// Fills in the scale for images stored as bytes, until somebody says otherwise.
function suggestScale(fields, datasets) {
  const field = fields.get('dataset');
  const ref = field?.get?.('ref')?.value();
  if (!ref || field.get('scale')?.value() !== undefined || field.suggestedFor === ref) return;
  field.suggestedFor = ref;
  const scale = suggestedScale(datasets.find(({ name }) => name === ref.split('@')[0]));
  if (scale) field.get('scale')?.set(scale);
}

function actionsCard(desk, body, preview) {
  const check = h('button', { type: 'button', 'data-action': 'check' }, 'Check');
  check.addEventListener('click', () => checkJob(desk, body, check));
  return card('Ready?',
    h('p.muted', 'Checking runs nothing: it says what is missing and how big the student will be.'),
    h('div.actions', check, h('button.primary', { type: 'submit', 'data-action': 'start' }, 'Start the job')),
    desk.notice, desk.outcome,
    h('details.more', h('summary', 'The same from a terminal'), h('div.command.wrap', preview, copyButton(() => preview.textContent))));
}

// Sends the form; a problem goes to its fields, what has no field into the notice.
function send(desk, button, path, body, headers) {
  desk.fields.clear();
  desk.outcome.replaceChildren();
  return guarded(button, desk.notice, async () => {
    try {
      return await post(path, body, headers);
    } catch (problem) {
      if (!problem.errors?.length) throw problem;
      showProblem(desk, problem);
      return null;
    }
  });
}

function showProblem(desk, problem) {
  const homeless = showFaults(desk.fields, problem.errors);
  const placed = problem.errors.length - homeless.length;
  const detail = placed === 0 ? problem.detail
    : placed === 1 ? 'One field needs attention. It is marked in the form.' : `${placed} fields need attention. They are marked in the form.`;
  replace(desk.notice, problemBox({ title: 'The job cannot start yet', detail, errors: homeless }));
}

async function checkJob(desk, body, button) {
  const answer = await send(desk, button, 'v1/jobs?dry_run=1', body());
  if (!answer) return;
  announce('The job can start');
  const rows = sizeRows(answer.teacher, answer.student);
  const heads = answer.spec.teacher ? ['Teacher', 'Student'] : ['Before', 'After'];
  replace(desk.outcome, h('p.success', 'Everything fits. The job can start.'), rows.length > 0 && comparisonTable(rows, heads));
}

// A key per attempt to start, so that a repeated request cannot start a second job.
function idempotencyKey() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `"${Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('')}"`;
}

async function startJob(desk, body, button) {
  const job = await send(desk, button, 'v1/jobs', body(), { 'Idempotency-Key': idempotencyKey() });
  if (job) location.hash = `#/jobs/${job.id}`;
}
