// form.js - a form from a parameter table: groups for objects, what is rare folded away.

import { freshId, h } from './dom.js';
import { listField, plainListField, scalarField } from './fields.js';
import { words } from './format.js';
import { alternatives, isEveryday, isOpen, isSwitched, suggestions } from './form_hints.js';

// context: {path, required (it and all around it), listed (in an element of a list), references}
function fieldFor(param, context) {
  if (!param.list) return param.type === 'object' ? groupField(param, context) : scalarField(param, context);
  if (param.type !== 'object' && !param.refers_to) return plainListField(param, context);
  const element = { ...param, list: undefined };
  return listField(param, () => fieldFor(element, { ...context, required: true, listed: true }), context);
}

function groupField(param, context) {
  return isSwitched(context.path) ? switchedField(param, context) : objectField(param, context);
}

// A group behind a switch: off, nothing is sent; on, at least {}.
function switchedField(param, context) {
  const group = objectField(param, { ...context, required: true });
  const id = freshId('switch');
  const control = h('input', { id, type: 'checkbox' });
  const sync = () => { group.element.hidden = !control.checked; };
  const turn = (on) => { control.checked = on; sync(); };
  control.addEventListener('change', () => { sync(); group.preselect(); });
  turn(false);
  return {
    ...group,
    control,
    element: h('div.switched', h('div.switch', control, h('label', { for: id }, `Use ${words(param.name)}`)), group.element),
    preselect: undefined,
    set(value) { turn(value !== undefined); group.set(value); },
    value: () => (control.checked ? group.value() ?? {} : undefined),
  };
}

function inside(param, context) {
  const path = context.path ? `${context.path}.${param.name}` : param.name;
  return { ...context, path, required: Boolean(context.required && param.required) };
}

// The members of an object as fields. Answers a field; `layout(children)` may arrange them.
function objectField(param, context, layout = objectLayout) {
  const fields = (param.fields ?? []).map((one) => ({ param: one, field: fieldFor(one, inside(one, context)), path: inside(one, context).path }));
  const fault = h('p.fault');
  const { element, control } = layout(fields, context, fault);
  const byName = new Map(fields.map(({ param: { name }, field }) => [name, field]));
  excludeEachOther(alternatives(context.path), byName);
  const self = {
    element,
    control: control ?? fields[0]?.field.control,
    get: (name) => byName.get(name),
    set(value) {
      const given = value !== undefined && (value === null || typeof value !== 'object') ? { [param.bare]: value } : value ?? {};
      for (const [name, field] of byName) field.set(given[name] ?? undefined);
    },
    value() {
      const entries = [...byName].map(([name, field]) => [name, field.value()]).filter(([, one]) => one !== undefined);
      return entries.length ? Object.fromEntries(entries) : undefined;
    },
    preselect: () => byName.forEach((field) => field.preselect?.()),
    locate: ([name, ...rest]) => byName.get(name)?.locate(rest) ?? self,
    fault: (text) => fault.append(h('span', text)),
    clear() { fault.replaceChildren(); byName.forEach((field) => field.clear()); },
  };
  return self;
}

// Setting one alternative empties the others.
function excludeEachOther(names, byName) {
  for (const name of names) {
    byName.get(name)?.element.addEventListener('input', () => {
      if (byName.get(name).value() === undefined) return;
      for (const other of names) if (other !== name) byName.get(other)?.set(undefined);
    });
  }
}

const isGroup = ({ type, list, refers_to: refers }) => type === 'object' || Boolean(list && refers);

// A group inside a group brings its name along; a plain field has its label already.
function nested({ param, field }) {
  if (!isGroup(param)) return field.element;
  return h('fieldset.nested', h('legend', words(param.name)), param.help && h('p.help', param.help), field.element);
}

function objectLayout(fields, context, fault) {
  const small = context.path.includes('.') && fields.length <= 4;
  const everyday = fields.filter(({ path, param }) => small || isEveryday(path, param));
  const rest = fields.filter((one) => !everyday.includes(one));
  const shown = everyday.length ? everyday : rest;
  const folded = everyday.length ? rest : [];
  return {
    element: h('div.object', fault, h('div.grid', shown.map(nested)), folded.length > 0 && h('details.more',
      h('summary', `More: ${folded.map(({ param }) => words(param.name)).join(', ')}`),
      h('div.grid', folded.map(nested)))),
  };
}

function section({ param, field }) {
  if (!isGroup(param)) return h('section.card.form-part', field.element);
  return h('fieldset.card.form-part', h('legend', words(param.name)), param.help && h('p.help', param.help), field.element);
}

// The form of a method: a section for each part; the name of the output comes last.
function methodLayout(fields, context, fault) {
  const open = fields.filter(({ param }) => isOpen(param));
  const rest = fields.filter((one) => !open.includes(one));
  const isOutput = ({ param }) => param.name === 'output';
  const ordered = [...open.filter((one) => !isOutput(one)), ...fields.filter(isOutput)];
  const folded = rest.filter((one) => !isOutput(one));
  return {
    element: h('div.method-form', fault, ordered.map(section), folded.length > 0 && h('details.more.more-parts',
      h('summary', `More settings: ${folded.map(({ param }) => words(param.name)).join(', ')}`), folded.map(section))),
  };
}

// Fills in what a newcomer would not know, where something must be said.
function suggest(form, params) {
  for (const { name, required } of params) {
    const field = form.get(name);
    if (!required || field.value() !== undefined) continue;
    for (const [inner, value] of suggestions(name)) field.get?.(inner)?.set(value);
  }
}

// The whole form of a method, filled with `values`; a fresh one also with suggestions.
export function methodForm(method, references, { values, fresh }) {
  const form = objectField({ fields: method.parameters, name: method.name }, { path: '', required: true, references }, methodLayout);
  form.set(values);
  if (!fresh) return form;
  form.preselect();
  suggest(form, method.parameters);
  return form;
}

// Shows problems at their fields; answers those that belong to none.
export function showFaults(form, errors) {
  const homeless = [];
  let first = null;
  for (const error of errors) {
    const field = form.locate((error.pointer ?? '').split('/').slice(1));
    if (field === form) { homeless.push(error); continue; }
    field.fault(withoutPointer(error));
    unfold(field.element);
    first ??= field;
  }
  first?.control?.focus();
  first?.element.scrollIntoView({ block: 'center' });
  return homeless;
}

// The field stands beside the text already.
function withoutPointer({ pointer, detail }) {
  return detail.startsWith(`${pointer}: `) ? detail.slice(pointer.length + 2) : detail;
}

function unfold(element) {
  for (let box = element.closest('details'); box; box = box.parentElement.closest('details')) box.open = true;
}
