// spec_view.js - a filled-in specification, readable instead of as JSON.

import { h } from './dom.js';
import { words } from './format.js';

const isGroup = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

function plain(value) {
  if (Array.isArray(value)) return value.length ? value.map(plain).join(', ') : '–';
  if (isGroup(value)) return Object.values(value).map(plain).join(' · ');
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return value === null || value === '' ? '–' : String(value);
}

function line(name, value) {
  return h('div', h('dt', words(name)), h('dd', plain(value)));
}

function listOfGroups(name, list) {
  if (list.length === 1) return group(name, list[0]);
  return list.map((one, i) => group(`${name} ${i + 1}`, one));
}

function group(name, value) {
  return h('div.spec-group', h('h3', words(name)), members(value));
}

// Plain values first, groups below them.
function members(value) {
  const lines = [];
  const groups = [];
  for (const [name, one] of Object.entries(value)) {
    if (one === null) continue;
    if (isGroup(one)) groups.push(group(name, one));
    else if (Array.isArray(one) && one.length && one.every(isGroup)) groups.push(listOfGroups(name, one));
    else lines.push(line(name, one));
  }
  return [lines.length > 0 && h('dl.facts', lines), groups];
}

export function specTree(spec) {
  return h('div.spec', members(spec ?? {}));
}
