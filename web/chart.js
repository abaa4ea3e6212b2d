// chart.js - a line chart in SVG. The legend doubles as the reading under the pointer or the
// arrow keys, so nothing floats over the curves and small screens lose nothing.

import { announce, freshId, h, replace, svg } from './dom.js';
import { exact, number } from './format.js';
import { bounds, indexAt, scale, smooth, thin, ticks } from './chart_math.js';

const EDGE = { top: 12, right: 14, bottom: 26, left: 52 };
const SMOOTH_FROM = 120; // noisy curves with more points than this get a smoothed line on top

// options: {title, format(value), logarithm: offer a logarithmic scale, minor: small}
// Answers {element, update(series, references, end)} with series [{name, label, tone, points: [[x, y], ...]}],
// references [{label, value}], drawn as dashed lines, and the x where the curves will end.
export function chart({ title, format = number, logarithm = false, minor = false }) {
  const state = { series: [], references: [], end: 1, cursor: null, log: false, width: 0, height: minor ? 170 : 240 };
  const titleId = freshId('chart');
  const picture = svg('svg.chart', { height: state.height, tabindex: '0', role: 'img', 'aria-labelledby': titleId });
  const legend = h('div.legend');
  const toggle = logarithm ? h('button.small', { type: 'button', 'aria-pressed': 'false' }, 'log scale') : null;
  const element = h(`figure.card.chart-card${minor ? '.minor' : ''}`,
    h('figcaption', h('h2', { id: titleId }, title), toggle), legend, picture);

  function draw() {
    if (!state.width) return;
    const plan = layout(state);
    picture.setAttribute('viewBox', `0 0 ${state.width} ${state.height}`);
    replace(picture, plan && [axes(plan, format), curves(plan, state), cursorLine(plan, state)]);
    replace(legend, legendEntries(state, format));
  }
  function moveTo(x) {
    state.cursor = x;
    draw();
  }
  listen(picture, state, moveTo, () => announce(legend.innerText.replaceAll('\n', ' ')));
  toggle?.addEventListener('click', () => {
    state.log = !state.log;
    toggle.setAttribute('aria-pressed', String(state.log));
    draw();
  });
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width === state.width) return;
    state.width = width;
    draw();
  }).observe(picture);
  return {
    element,
    update(series, references, end) {
      Object.assign(state, { series, references, end });
      draw();
    },
  };
}

// Where values come to lie: null while there is nothing to draw.
function layout({ series, references, end, log, width, height }) {
  const points = series.flatMap((one) => one.points);
  if (points.length === 0) return null;
  const ys = bounds([...points.map((p) => p[1]), ...references.map((r) => r.value)], log);
  const xs = {
    low: Math.min(0, ...series.map((one) => one.points[0]?.[0] ?? 0)),
    high: Math.max(end, ...series.map((one) => one.points.at(-1)?.[0] ?? 1)),
  };
  return {
    width,
    log,
    bottom: height - EDGE.bottom,
    xs,
    ys,
    x: scale(xs.low, xs.high, EDGE.left, width - EDGE.right),
    y: scale(ys.low, ys.high, height - EDGE.bottom, EDGE.top, log),
  };
}

function axes({ x, y, xs, ys, width, bottom, log }, format) {
  const rows = ticks(ys.low, ys.high, 4, log).map((value) => [
    svg('line.grid', { x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
    svg('text.tick', { x: EDGE.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, format(value)),
  ]);
  const columns = ticks(xs.low, xs.high, Math.max(2, Math.floor(width / 90))).map((value) => (
    svg('text.tick', { x: x(value), y: bottom + 18, 'text-anchor': 'middle' }, exact(value))));
  return [rows, columns];
}

function path(points, { x, y }) {
  return points.map(([px, py], i) => `${i ? 'L' : 'M'}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join('');
}

function curves(plan, { series, references }) {
  const dashed = references.map(({ value }) => (
    svg('line.reference', { x1: EDGE.left, x2: plan.width - EDGE.right, y1: plan.y(value), y2: plan.y(value) })));
  return [dashed, series.filter((one) => one.points.length).map((one) => curve(one, plan))];
}

function curve({ name, tone, points }, plan) {
  const noisy = points.length > SMOOTH_FROM && name.startsWith('train');
  const shown = thin(points, plan.width);
  const lines = noisy
    ? [svg('path.raw', { d: path(shown, plan) }), svg('path.line', { d: path(thin(smooth(points), plan.width), plan) })]
    : [svg('path.line', { d: path(shown, plan) })];
  const room = points.length > 1 ? (plan.x(points.at(-1)[0]) - plan.x(points[0][0])) / points.length : Infinity;
  const dots = room > 14
    ? points.map(([px, py]) => svg('circle', { cx: plan.x(px), cy: plan.y(py), r: 2.5 })) : [];
  return svg(`g.series.series-${name}.tone-${tone}`, lines, dots);
}

function cursorLine({ x, y, bottom }, { cursor, series }) {
  if (cursor === null) return null;
  const dots = series.map((one) => {
    const point = one.points[indexAt(one.points, cursor)];
    return point && svg(`g.series.tone-${one.tone}`, svg('circle', { cx: x(point[0]), cy: y(point[1]), r: 4 }));
  });
  return [svg('line.cursor', { x1: x(cursor), x2: x(cursor), y1: EDGE.top, y2: bottom }), dots];
}

function legendEntries({ series, references, cursor }, format) {
  const entries = series.map(({ label, tone, points }) => {
    const point = cursor === null ? points.at(-1) : points[indexAt(points, cursor)];
    return h(`span.legend-entry.tone-${tone}`, label, h('b', point ? format(point[1]) : '–'));
  });
  const lines = references.map(({ label, value }) => h('span.legend-entry.dashed.tone-copper', label, h('b', format(value))));
  const step = cursor === null ? null : h('span.muted', `at step ${exact(cursor)}`);
  return [entries, lines, step];
}

// The x of the point nearest to a place in the picture, over all series.
function nearestX(series, wanted) {
  const candidates = series.map(({ points }) => points[indexAt(points, wanted)]?.[0]).filter((x) => x !== undefined);
  candidates.sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted));
  return candidates[0] ?? null;
}

function listen(picture, state, moveTo, readOut) {
  picture.addEventListener('pointermove', (event) => {
    const plan = layout(state);
    if (!plan) return;
    const box = picture.getBoundingClientRect();
    moveTo(nearestX(state.series, plan.x.invert(event.clientX - box.left)));
  });
  picture.addEventListener('pointerleave', () => moveTo(null));
  picture.addEventListener('blur', () => moveTo(null));
  picture.addEventListener('keydown', (event) => {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    const longest = state.series.reduce((a, b) => (b.points.length > a.points.length ? b : a), { points: [] }).points;
    if (!longest.length) return;
    const at = state.cursor === null ? longest.length : indexAt(longest, state.cursor);
    const stride = Math.max(1, Math.round(longest.length / 100));
    moveTo(longest[Math.min(longest.length - 1, Math.max(0, at + direction * stride))][0]);
    readOut();
  });
}
