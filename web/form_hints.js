// form_hints.js - what the parameter tables do not say: which fields people need every day.
// Everything else stands under "More". A new method needs nothing here.

const EVERYDAY = new Set([
  'teacher.model', 'model', 'dataset.ref', 'dataset.scale', 'student.width', 'student.model', 'train.epochs',
  'train.batch', 'train.learning_rate', 'train.seed', 'loss.kind', 'loss.temperature', 'loss.hard_weight', 'output',
  'tasks', 'env', 'frames', 'steps',
]);

// Open from the start although optional.
const OPEN_GROUPS = new Set(['train', 'student', 'model', 'tasks', 'env']);

// Filled in for a newcomer; sent like anything typed.
const SUGGESTED = { student: { width: 0.25 } };

// Fields of which one excludes the others.
const ALTERNATIVES = {
  student: ['width', 'model', 'layers'],
  'student.layers': ['op', 'conv', 'dense', 'maxpool', 'avgpool', 'dropout'],
  train: ['epochs', 'steps'],
};

// Groups that do something only when they are given; the others have defaults that always hold.
const SWITCHED = new Set(['evaluate', 'train.early_stop']);

export const isEveryday = (path, param) => param.required || EVERYDAY.has(path);
export const isOpen = (param) => param.required || OPEN_GROUPS.has(param.name);
export const suggestions = (path) => Object.entries(SUGGESTED[path] ?? {});
export const isSwitched = (path) => SWITCHED.has(path);
export const alternatives = (path) => ALTERNATIVES[path] ?? [];

// Images stored as bytes are nearly always meant as 0..1.
export function suggestedScale(dataset) {
  return dataset?.arrays.some(({ name, dtype }) => name === 'inputs' && dtype === 'uint8') ? 255 : null;
}
