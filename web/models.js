// models.js - the list of models, the upload, and the page of one model.

import { get, modelPath, page } from './api.js';
import { card, command, copyButton, facts, freshId, h, pageHead, replace } from './dom.js';
import { bytes, count, digest, exact, metric, shape, when, words } from './format.js';
import { curl, emptyModels } from './start.js';
import { dropZone, nameFrom, sending } from './upload.js';

const PAGE_SIZE = 100;

export async function modelsPage(place, { signal }) {
  const list = h('div');
  async function refresh() {
    const { items, next } = await page('v1/models', { limit: PAGE_SIZE, signal });
    replace(list, items.length ? modelTable(items, next, signal) : emptyModels());
  }
  await refresh();
  replace(place, pageHead('Models'), uploadCard(refresh), list);
}

function uploadCard(refresh) {
  const pending = h('div.pending');
  const zone = dropZone({
    label: 'Upload a model',
    hint: 'Drop an ONNX file here, or choose one',
    accept: '.onnx',
    onfiles: ([file]) => replace(pending, uploadForm(file, pending, refresh)),
  });
  return h('section.card', zone, pending);
}

function uploadForm(file, pending, refresh) {
  const id = freshId('name');
  const input = h('input', { id, type: 'text', name: 'name', value: nameFrom(file.name), required: true, autocomplete: 'off', spellcheck: 'false' });
  const form = h('form.inline', h('label', { for: id }, 'Store as'), input,
    h('button.primary', { type: 'submit' }, 'Upload'), h('span.muted', `${file.name}, ${bytes(file.size)}`));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const transfer = sending(file);
    replace(pending, transfer.element);
    const version = await transfer.send(`${modelPath(input.value.trim())}/onnx`);
    if (!version) return;
    replace(pending, stored(version, input.value.trim()));
    await refresh();
  });
  queueMicrotask(() => input.select());
  return form;
}

function stored(version, name) {
  const ref = `${name}@${version.version}`;
  return h('p.success', h('b', ref), ' is stored. ', h('a', { href: `#/new?method=distill&teacher=${name}` }, 'Distil it into a student'));
}

function modelTable(items, next, signal) {
  const body = h('tbody', items.map(modelRow));
  const more = next && h('button', { type: 'button' }, 'Show more');
  more?.addEventListener('click', async () => {
    const answer = await page('v1/models', { limit: PAGE_SIZE, after: next, signal });
    body.append(...answer.items.map(modelRow));
    next = answer.next;
    if (!next) more.remove();
  });
  const heads = ['Name', 'Parameters', 'Multiply-adds', 'Size', 'Origin', 'Stored', ''];
  return h('section.card.table-card', h('table.stacked',
    h('thead', h('tr', heads.map((text) => h('th', { scope: 'col' }, text)))), body), more);
}

const cell = (label, ...content) => h('td', { 'data-label': label }, content);

function modelRow(model) {
  return h('tr',
    h('th', { scope: 'row' }, h('a', { href: `#/models/${model.name}` }, model.name), h('span.muted', `@${model.version}`), tags(Object.keys(model.aliases ?? {}))),
    cell('Parameters', h('span', { title: exact(model.parameters) }, count(model.parameters))),
    cell('Multiply-adds', h('span', { title: exact(model.macs) }, count(model.macs))),
    cell('Size', bytes(model.bytes)),
    cell('Origin', origin(model.job)),
    cell('Stored', when(model.created_at)),
    h('td.row-actions', h('a', { href: `${modelPath(model.name)}/onnx`, download: '' }, 'Download')));
}

const tags = (names) => names.map((name) => h('span.tag', name));

const origin = (job) => (job ? h('a', { href: `#/jobs/${job}` }, `job ${job}`) : 'uploaded');

export async function modelPage(place, { parts: [ref], signal }) {
  const [name, wanted] = ref.split('@');
  const summary = await get(modelPath(name), signal);
  const shown = wanted ? await get(modelPath(ref), signal) : summary;
  const exactRef = `${name}@${shown.version}`;
  replace(place,
    h('p.crumbs', h('a', { href: '#/models' }, 'Models'), ` / ${name}`),
    pageHead(exactRef,
      h('a.button', { href: `#/new?method=distill&teacher=${exactRef}` }, 'Distil it'),
      h('a.button.primary', { href: `${modelPath(exactRef)}/onnx`, download: '' }, 'Download')),
    h('div.columns',
      h('div.wide', card('This version', versionFacts(shown)), card('Versions', versionTable(summary, shown))),
      h('div.narrow',
        card('Where it comes from', lineage(shown)),
        operatorsCard(shown),
        card('From a terminal', command(curl.download(`${modelPath(exactRef)}/onnx`))))));
}

function versionFacts(version) {
  return facts([
    ['Parameters', exact(version.parameters)],
    ['Multiply-adds', exact(version.macs)],
    ['File size', `${bytes(version.bytes)} (${exact(version.bytes)} bytes)`],
    ['Inputs', ports(version.inputs)],
    ['Outputs', ports(version.outputs)],
    ['Stored', when(version.created_at)],
    ...Object.entries(version.metrics ?? {}).filter(([key]) => !(key in version)).map(([key, value]) => [capital(words(key)), metric(key, value)]),
    ['Digest', version.digest && h('span.digest-line', digest(version.digest), copyButton(() => version.digest))],
  ]);
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const ports = (list) => (list ?? []).map((port) => h('div', h('code', port.name), ` ${shape(port.shape)}`));

function versionTable({ name, versions, version_count: total, aliases }, shown) {
  const aliasesOf = (number) => Object.keys(aliases ?? {}).filter((alias) => aliases[alias] === number);
  const rows = versions.map((one) => h('tr', { 'aria-current': one.version === shown.version ? 'true' : null },
    h('th', { scope: 'row' }, h('a', { href: `#/models/${name}@${one.version}` }, `@${one.version}`), tags(aliasesOf(one.version))),
    cell('Parameters', count(one.parameters)), cell('Size', bytes(one.bytes)),
    cell('Digest', digest(one.digest)), cell('Stored', when(one.created_at))));
  const heads = ['Version', 'Parameters', 'Size', 'Digest', 'Stored'];
  const table = h('table.stacked', h('thead', h('tr', heads.map((text) => h('th', { scope: 'col' }, text)))), h('tbody', rows));
  return [table, total > versions.length && h('p.muted', `The newest ${versions.length} of ${exact(total)}.`)];
}

function lineage({ job, lineage: given }) {
  if (!job) return h('p', 'Uploaded as it is.');
  const { teacher, dataset } = given ?? {};
  const link = (kind, value) => h('a', { href: `#/${kind}/${value}` }, value);
  const links = (kind, values) => [values ?? []].flat().map((one) => h('div', link(kind, one.model ?? one.ref ?? one)));
  return facts([
    ['Teacher', teacher && links('models', teacher)],
    ['Data set', dataset && links('datasets', dataset)],
    ['Job', link('jobs', String(job))]]);
}

function operatorsCard({ operators }) {
  const counts = Array.isArray(operators)
    ? operators.map((one) => (typeof one === 'string' ? [one] : [one.op ?? one.name, one.count])) : Object.entries(operators ?? {});
  if (!counts.length) return null;
  return card('Operators', h('p.tags', counts.map(([op, times]) => h('span.tag', times > 1 ? `${times} × ${op}` : op))));
}
