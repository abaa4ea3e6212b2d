// format.js - numbers, sizes and times the way people read them.

import { h } from './dom.js';

const UNITS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

function scaled(value, unit) {
  for (const [size, prefix] of UNITS) {
    if (value >= size) return `${(value / size).toPrecision(3)} ${prefix}${unit}`;
  }
  return unit ? `${value} ${unit}` : `${value}`;
}

const known = (value) => typeof value === 'number' && Number.isFinite(value);

export const count = (value) => (known(value) ? scaled(value, '') : '–');
export const bytes = (value) => (known(value) ? scaled(value, 'B') : '–');
export const exact = (value) => (known(value) ? value.toLocaleString('en') : '–');
export const percent = (value, digits = 2) => (known(value) ? `${(value * 100).toFixed(digits)} %` : '–');

// A number with four significant digits, without noise.
export function number(value) {
  if (!known(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, 'e');
  return String(Number(value.toPrecision(4)));
}

// A number that has a name, in the unit the name suggests.
export function metric(name, value) {
  if (/accuracy|agreement/.test(name)) return percent(value);
  if (/^(parameters|macs)$/.test(name)) return count(value);
  return name === 'bytes' ? bytes(value) : number(value);
}

export function duration(seconds) {
  if (!known(seconds)) return '';
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

export function between(from, to) {
  if (!from) return '';
  return duration(((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000);
}

export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86400);
  return days === 1 ? 'yesterday' : `${days} days ago`;
}

export function when(time) {
  if (!time) return '–';
  return h('time', { datetime: time, title: new Date(time).toLocaleString() }, ago(time));
}

// Names of the interface in words: train_loss -> train loss
const SPELLED = {
  dataset: 'data set', ref: 'reference', init: 'weights', train: 'training', train_loss: 'training loss',
  macs: 'multiply-adds', bytes: 'file size', kl: 'KL divergence', ce: 'cross entropy', mse: 'squared error',
};
export const words = (name) => SPELLED[name] ?? name.replaceAll('_', ' ');

export function shape(dimensions) {
  if (!Array.isArray(dimensions)) return 'as the input decides';
  return dimensions.map((d) => (d === null || d === -1 ? 'N' : typeof d === 'number' ? exact(d) : d)).join(' × ') || 'scalar';
}

export function digest(value) {
  if (!value) return '–';
  return h('code.digest', { title: value }, `${value.slice(0, 19)}…`);
}
