// dom.js - elements from plain calls. Text always becomes a text node, never markup.

const SVG = 'http://www.w3.org/2000/svg';

// h('p.note', {title: 'x', onclick: f}, 'text', [child, child]); the properties may be left out.
export function h(tag, ...rest) {
  const [name, ...classes] = tag.split('.');
  return fill(document.createElement(name), classes, rest);
}

// The same for SVG elements.
export function svg(tag, ...rest) {
  const [name, ...classes] = tag.split('.');
  return fill(document.createElementNS(SVG, name), classes, rest);
}

function fill(element, classes, [first, ...rest]) {
  if (classes.length) element.setAttribute('class', classes.join(' '));
  if (isProperties(first)) setAll(element, first);
  else add(element, first);
  for (const child of rest) add(element, child);
  return element;
}

function isProperties(value) {
  return value !== null && typeof value === 'object' && !(value instanceof Node) && !Array.isArray(value);
}

function setAll(element, properties) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'value') element.value = value;
    else element.setAttribute(key, value === true ? '' : value);
  }
}

function add(element, child) {
  if (child === undefined || child === null || child === false) return;
  if (Array.isArray(child)) child.forEach((one) => add(element, one));
  else element.append(child);
}

export function replace(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

let lastId = 0;
export function freshId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

// Tells screen readers what happened.
export function announce(text) {
  document.getElementById('announcer').textContent = text;
}

export function copyButton(text, label = 'Copy') {
  if (!navigator.clipboard) return null;
  const button = h('button.small', { type: 'button' }, label);
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = 'Copied';
    announce('Copied');
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

// A command line to copy.
export function command(text) {
  return h('div.command', h('code', text), copyButton(() => text));
}

export function card(title, ...children) {
  return h('section.card', title && h('h2', title), children);
}

export function pageHead(title, ...actions) {
  return h('div.page-head', h('h1', { tabindex: '-1' }, title), h('div.actions', actions));
}

// rows: [[term, description], ...]; those without description are left out.
export function facts(rows) {
  const kept = rows.filter(([, value]) => value !== undefined && value !== null && value !== '');
  return h('dl.facts', kept.map(([term, value]) => h('div', h('dt', term), h('dd', value))));
}
