// result.js - teacher and student side by side, and the way to get the student.

import { get, modelPath } from './api.js';
import { card, command, copyButton, h } from './dom.js';
import { bytes, count, digest, exact, metric, percent, words } from './format.js';
import { curl } from './start.js';

const teacherRef = (spec) => {
  if (spec?.method === 'morph') return spec.model;
  const one = Array.isArray(spec?.teacher) ? spec.teacher[0] : spec?.teacher;
  return one?.model ?? one ?? null;
};

async function modelOrNull(ref, signal) {
  if (!ref) return null;
  try {
    return await get(modelPath(ref), signal);
  } catch {
    return null; // removed in the meantime: the table does without
  }
}

function times(teacher, student) {
  if (!(teacher > 0 && student > 0)) return '';
  return teacher >= student ? `${(teacher / student).toFixed(1)} × smaller` : `${(student / teacher).toFixed(1)} × larger`;
}

function kept(teacher, student) {
  return teacher > 0 && student > 0 ? `${((student / teacher) * 100).toFixed(1)} % of it` : '';
}

// How big two networks are: rows of the comparison, without what the student's size leaves out.
export function sizeRows(teacher, student) {
  const rows = [['Parameters', 'parameters', count], ['File size', 'bytes', bytes], ['Multiply-adds', 'macs', count]];
  return rows.map(([label, key, format]) => [label, teacher?.[key], student?.[key], format, times])
    .filter(([, , value]) => typeof value === 'number');
}

function accuracyRows({ teacher_metrics: teacher, metrics: student }) {
  if (typeof student?.accuracy !== 'number') return [];
  return [['Accuracy', teacher?.accuracy, student.accuracy, percent, kept]];
}

export function comparisonTable(rows, heads = ['Teacher', 'Student']) {
  return h('table.comparison',
    h('thead', h('tr', h('td'), heads.map((text) => h('th', { scope: 'col' }, text)), h('td'))),
    h('tbody', rows.map(([label, teacher, student, format, compare]) => h('tr',
      h('th', { scope: 'row' }, label),
      h('td.of-teacher', { title: exact(teacher) }, format(teacher)),
      h('td.of-student', { title: exact(student) }, format(student)),
      h('td.gain', compare(teacher, student))))));
}

function downloadPart(job, student) {
  const path = `v1/jobs/${job.id}/student/onnx`;
  const sum = job.result.digest ?? student?.digest;
  return [
    h('p.download-line',
      h('a.button.primary', { href: path, download: '', 'data-action': 'download' }, 'Download the student'),
      student && h('a', { href: `#/models/${student.name}@${student.version}` }, `${student.name}@${student.version}`)),
    sum && h('p.digest-line', digest(sum), copyButton(() => sum)),
    command(curl.download(path)),
  ];
}

// The card of a job that succeeded; null when it left nothing to show.
export async function resultCard(job, signal) {
  if (job.state !== 'succeeded' || !job.result) return null;
  const [teacher, student] = await Promise.all([
    modelOrNull(teacherRef(job.spec), signal), modelOrNull(job.result.model, signal)]);
  const { metrics, teacher_metrics: teacherMetrics, report } = job.result;
  const rows = [...sizeRows(together(teacher, teacherMetrics), together(student, metrics)), ...accuracyRows(job.result)];
  return card('Result',
    (report?.warnings ?? []).map((text) => h('p.notice', text)),
    teacher || teacherMetrics ? comparisonTable(rows, job.method === 'morph' ? ['Parent', 'Child'] : undefined) : measuredTable({ ...metrics, ...sizesOf(student) }),
    job.result.model && downloadPart(job, student));
}

// What is stored of a model, and what its data made known: multiply-adds, where the network leaves sizes free.
const together = (model, metrics) => ({ ...metrics, ...model, macs: model?.macs ?? metrics?.macs });

const sizesOf = (model) => model && { parameters: model.parameters, macs: model.macs, bytes: model.bytes };

// Methods without a teacher: what was measured, and the size of what came out.
function measuredTable(metrics) {
  return h('table.comparison', h('tbody', Object.entries(metrics).map(([name, value]) => (
    h('tr', h('th', { scope: 'row' }, words(name)), h('td.of-student', { title: exact(value) }, metric(name, value)))))));
}
