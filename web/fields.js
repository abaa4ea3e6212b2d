// fields.js - one input per row of a parameter table. Every field answers
//   element           what is shown
//   value()           what is sent; undefined when nothing was set
//   set(value)        fills it, undefined empties it
//   locate(names)     the field a JSON pointer means, split into names: itself or one inside
//   preselect()       chooses what there is only one of, where something must be chosen
//   fault(text)       shows a problem; clear() removes it
// A row with `list` (the most elements) is a list, and all else in it describes an element.
// Values are not judged here: what cannot be a number is sent as text, and the server, whose
// tables these are, says what is wrong.

import { freshId, h, replace } from './dom.js';
import { words } from './format.js';

export function scalarField(param, context) {
  const id = freshId('field');
  const make = param.refers_to ? picker : { boolean: checkbox, choice }[param.type] ?? textInput;
  const input = make(param, { ...context, id });
  return framed(param, context, id, input);
}

// Label, help and the place for problems around an input {element, control, value, set}.
function framed(param, context, id, input) {
  const helpId = `${id}-help`;
  const fault = h('p.fault', { id: `${id}-fault` });
  const label = h('label', { for: id }, words(param.name), context.required && h('span.required', 'required'));
  const { control } = input;
  control.setAttribute('aria-describedby', `${helpId} ${id}-fault`);
  if (context.required) control.setAttribute('aria-required', 'true');
  const element = h(`div.field.type-${param.type}`, { 'data-path': context.path },
    label, input.element, h('p.help', { id: helpId }, param.help ?? ''), fault);
  const self = {
    element,
    control,
    value: input.value,
    set: input.set,
    preselect: context.required ? input.preselect : undefined,
    locate: () => self,
    fault(text) {
      fault.append(h('span', text));
      control.setAttribute('aria-invalid', 'true');
    },
    clear() {
      fault.replaceChildren();
      control.removeAttribute('aria-invalid');
    },
  };
  return self;
}

function checkbox(param, { id }) {
  const control = h('input', { id, type: 'checkbox' });
  const standard = param.default ?? false;
  const set = (value) => { control.checked = value ?? standard; };
  set();
  return { element: control, control, set, value: () => (control.checked === standard ? undefined : control.checked) };
}

const isNumeric = ({ type }) => type === 'integer' || type === 'number';

// Inside lists the default is sent as well: it may be all that an element says.
function choice(param, { id, listed }) {
  const standard = param.default ?? '';
  const options = param.choices.map((word) => h('option', { value: word }, word === standard ? `${word} (default)` : word));
  const control = h('select', { id }, standard === '' && h('option', { value: '' }, 'not set'), options);
  const set = (value) => { control.value = value ?? standard; };
  set();
  return { element: control, control, set, value: () => (control.value === standard && !(listed && standard) ? undefined : control.value) };
}

function parse(param, text) {
  const number = Number(text);
  return isNumeric(param) && Number.isFinite(number) ? number : text;
}

function range({ minimum, maximum }) {
  if (minimum === undefined && maximum === undefined) return null;
  return `from ${minimum ?? '–'} to ${maximum ?? '–'}`;
}

function textInput(param, { id }) {
  const numeric = isNumeric(param);
  const listId = param.choices && `${id}-words`;
  const control = h('input', {
    id, type: 'text', autocomplete: 'off', spellcheck: 'false', list: listId, title: numeric ? range(param) : null,
    inputmode: numeric && !param.choices ? 'decimal' : null, placeholder: param.default === undefined ? null : String(param.default),
  });
  const element = listId ? h('div', control, h('datalist', { id: listId }, param.choices.map((value) => h('option', { value })))) : control;
  return {
    element,
    control,
    set: (value) => { control.value = value === undefined || value === param.default ? '' : String(value); },
    value() {
      const text = control.value.trim();
      return text === '' ? undefined : parse(param, text);
    },
  };
}

const OTHER = '\u0000other';

// A choice among the stored models or data sets, or any other reference typed in.
function picker(param, { id, references }) {
  const stored = references[param.refers_to] ?? [];
  const typed = h('input', { type: 'text', 'aria-label': 'Reference', placeholder: 'name@version', autocomplete: 'off', spellcheck: 'false', hidden: true });
  const control = h('select', { id, 'data-refers-to': param.refers_to },
    h('option', { value: '' }, stored.length ? 'choose …' : `there is no ${param.refers_to} yet`),
    stored.map(({ ref, label }) => h('option', { value: ref }, label)),
    h('option', { value: OTHER }, 'another reference …'));
  const showTyped = () => { typed.hidden = control.value !== OTHER; };
  control.addEventListener('change', () => { showTyped(); if (!typed.hidden) typed.focus(); });
  return {
    element: h('div.picker', control, typed),
    control,
    set(value) {
      const known = value === undefined || stored.some(({ ref }) => ref === value);
      control.value = known ? value ?? '' : OTHER;
      typed.value = known ? '' : value;
      showTyped();
    },
    preselect() { if (!control.value && stored.length === 1) control.value = stored[0].ref; },
    value: () => (control.value === OTHER ? typed.value.trim() : control.value) || undefined,
  };
}

// A list of plain values, separated by commas.
export function plainListField(param, context) {
  const id = freshId('field');
  const control = h('input', { id, type: 'text', autocomplete: 'off', spellcheck: 'false', placeholder: 'a, b, …' });
  return framed(param, context, id, {
    element: control,
    control,
    set: (value) => { control.value = value === undefined ? '' : [value].flat().join(', '); },
    value() {
      const parts = control.value.split(',').map((text) => text.trim()).filter(Boolean);
      return parts.length ? parts.map((text) => parse(param, text)) : undefined;
    },
  });
}

// A list whose elements are fields of their own, with buttons to add and remove.
export function listField(param, makeItem, context) {
  const items = [];
  const box = h('div.items');
  const fault = h('p.fault');
  const noun = words(param.name).replace(/([^s])s$/, '$1');
  const addButton = h('button.small', { type: 'button' });
  const element = h('div.list', { 'data-path': context.path }, box, fault, addButton);

  function draw() {
    replace(box, items.map((item, i) => h('div.item', item.element, (items.length > 1 || !context.required) && removeButton(i))));
    addButton.textContent = `Add ${items.length ? 'another' : 'a'} ${noun}`;
    addButton.hidden = items.length >= (param.list);
  }
  function change() {
    draw();
    element.dispatchEvent(new Event('input', { bubbles: true }));
  }
  function removeButton(i) {
    const remove = () => { items.splice(i, 1); change(); };
    return h('button.small', { type: 'button', 'aria-label': `Remove ${noun} ${i + 1}`, onclick: remove }, 'Remove');
  }
  addButton.addEventListener('click', () => { items.push(makeItem()); change(); });
  const self = {
    element,
    control: addButton,
    set(value) {
      items.length = 0;
      for (const one of value === undefined ? [] : [value].flat()) {
        items.push(makeItem());
        items.at(-1).set(one);
      }
      if (!items.length && context.required) items.push(makeItem());
      draw();
    },
    value() {
      const values = items.map((item) => item.value()).filter((one) => one !== undefined);
      return values.length ? values : undefined;
    },
    preselect: () => items.forEach((item) => item.preselect?.()),
    locate: ([index, ...rest]) => items.filter((item) => item.value() !== undefined)[index]?.locate(rest) ?? self,
    fault: (text) => fault.append(h('span', text)),
    clear() { fault.replaceChildren(); items.forEach((item) => item.clear()); },
  };
  self.set(undefined);
  return self;
}
