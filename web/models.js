// models.js - the list of models, the upload, and the page of one model.

import { get, modelPath, page } from './api.js';
import { card, command, copyButton, facts, freshId, h, pageHead, replace } from './dom.js';
import { bytes, count, digest, exact, number, percent, shape, when, words } from './format.js';
import { curl, emptyModels } from './start.js';
import { dropZone, nameFrom, sending } from './upload.js';

const PAGE_SIZE = 100;

// A model of the list: its newest version's facts, wherever the answer puts them.
const newest = (model) => ({ ...model, ...(typeof model.latest === 'object' ? model.latest : {}) });

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

function modelRow(item) {
  const model = newest(item);
  const version = typeof model.version === 'number' ? `@${model.version}` : '';
  return h('tr',
    h('th', { scope: 'row' }, h('a', { href: `#/models/${model.name}` }, model.name), h('span.muted', version), aliasTags(model.aliases)),
    cell('Parameters', h('span', { title: exact(model.parameters) }, count(model.parameters))),
    cell('Multiply-adds', h('span', { title: exact(model.macs) }, count(model.macs))),
    cell('Size', bytes(model.bytes)),
    cell('Origin', origin(model.lineage)),
    cell('Stored', when(model.created_at)),
    h('td.row-actions', h('a', { href: `${modelPath(model.name)}/onnx`, download: '' }, 'Download')));
}

// aliases: {champion: 3} or [{alias, version}]
function aliasTags(aliases) {
  const names = Array.isArray(aliases) ? aliases.map((a) => a.alias ?? a.name ?? a) : Object.keys(aliases ?? {});
  return names.map((name) => h('span.tag', name));
}

function origin(lineage) {
  if (!lineage?.job) return 'uploaded';
  return h('a', { href: `#/jobs/${lineage.job}` }, `job ${lineage.job}`);
}

export async function modelPage(place, { parts: [ref], signal }) {
  const name = ref.split('@')[0];
  const summary = await get(modelPath(name), signal);
  const versions = summary.versions ?? [];
  const wanted = ref === name ? `${name}@latest` : ref;
  const shown = await get(modelPath(wanted), signal);
  replace(place,
    h('p.crumbs', h('a', { href: '#/models' }, 'Models'), ` / ${name}`),
    pageHead(`${name}@${shown.version}`,
      h('a.button', { href: `#/new?method=distill&teacher=${name}@${shown.version}` }, 'Distil it'),
      h('a.button.primary', { href: `${modelPath(`${name}@${shown.version}`)}/onnx`, download: '' }, 'Download')),
    h('div.columns',
      h('div.wide', card('This version', versionFacts(shown)), card('Versions', versionTable(name, versions, shown, summary.aliases))),
      h('div.narrow', card('Where it comes from', lineage(shown.lineage)), operatorsCard(shown), downloadCard(name, shown))));
}

function versionFacts(version) {
  return facts([
    ['Parameters', exact(version.parameters)],
    ['Multiply-adds', exact(version.macs)],
    ['File size', `${bytes(version.bytes)} (${exact(version.bytes)} bytes)`],
    ['Inputs', ports(version.inputs)],
    ['Outputs', ports(version.outputs)],
    ['Stored', when(version.created_at)],
    ...Object.entries(version.metrics ?? {}).map(([key, value]) => [words(key), metric(key, value)]),
    ['Digest', version.digest && h('span.digest-line', digest(version.digest), copyButton(() => version.digest))],
  ]);
}

const metric = (name, value) => (/accuracy|agreement/.test(name) ? percent(value) : number(value));

const ports = (list) => (list ?? []).map((port) => h('div', h('code', port.name), ` ${shape(port.shape)}`));

function versionTable(name, versions, shown, aliases) {
  const aliasesOf = (version) => Object.entries(aliases ?? {}).filter(([, v]) => (v?.version ?? v) === version).map(([alias]) => alias);
  const rows = versions.map((version) => h('tr', version.version === shown.version && { 'aria-current': 'true' },
    h('th', { scope: 'row' }, h('a', { href: `#/models/${name}@${version.version}` }, `@${version.version}`), aliasTags(aliasesOf(version.version))),
    cell('Parameters', count(version.parameters)), cell('Size', bytes(version.bytes)),
    cell('Digest', digest(version.digest)), cell('Stored', when(version.created_at))));
  return h('table.stacked', h('thead', h('tr', ['Version', 'Parameters', 'Size', 'Digest', 'Stored'].map((text) => h('th', { scope: 'col' }, text)))), h('tbody', rows));
}

function lineage(given) {
  const { teacher, dataset, job } = given ?? {};
  if (!job) return h('p', 'Uploaded as it is.');
  const link = (kind, value) => value && h('a', { href: `#/${kind}/${value}` }, value);
  const refs = [teacher].flat().filter(Boolean).map((one) => h('div', link('models', one.model ?? one)));
  return facts([['Teacher', refs.length ? refs : null], ['Data set', link('datasets', dataset?.ref ?? dataset)],
    ['Job', h('a', { href: `#/jobs/${job}` }, `#${job}`)]]);
}

function operatorsCard({ operators }) {
  const counts = Array.isArray(operators)
    ? operators.map((one) => (typeof one === 'string' ? [one] : [one.op ?? one.name, one.count])) : Object.entries(operators ?? {});
  if (!counts.length) return null;
  return card('Operators', h('p.tags', counts.map(([op, times]) => h('span.tag', times > 1 ? `${times} × ${op}` : op))));
}

function downloadCard(name, version) {
  return card('From a terminal', command(curl.download(`${modelPath(`${name}@${version.version}`)}/onnx`)));
}
