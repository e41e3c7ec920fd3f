// SPDX-License-Identifier: MIT
import { Chart, costChart, distributionChart, measureChart, rampChart, spreadChart, useTheme } from './charts.js';
import { element } from './dom.js';
import { short } from './format.js';
import { makePalette, onThemeChange } from './palette.js';
import { resultTable, tollTable } from './tables.js';

const data = JSON.parse(document.getElementById('data').textContent);
const palette = makePalette(data.contenders);
const page = document.getElementById('page');
const charts = [];

/** A titled box with a chart, which is drawn once the box is in the page and has a size. */
function figure(title, explanation, summary, height, configure) {
  const canvas = element('canvas', { role: 'img', 'aria-label': `${title}. ${summary}` });
  charts.push([canvas, configure]);
  return element(
    'figure',
    {},
    element('figcaption', {}, element('h3', {}, title), element('p', {}, explanation)),
    element('div', { class: 'canvas', style: `height:${height}px` }, canvas),
  );
}

function legend() {
  const entries = data.contenders.map((name) =>
    element(
      'li',
      {},
      element('i', { class: 'swatch', style: `background:${palette.color(name)}` }),
      name,
      data.versions[name] ? element('small', {}, ` ${data.versions[name]}`) : null,
    ),
  );
  if (data.scenarios.some((scenario) => scenario.ideal)) entries.push(element('li', {}, element('i', { class: 'swatch dashed' }), 'ideal (simulated)'));
  return element('ul', { class: 'legend', 'aria-label': 'Colours' }, ...entries);
}

function figures(scenario) {
  const bars = 56 + 40 * scenario.contenders.length;
  const measured = scenario.contenders.map((c) => `${c.name} ${c.measure.median.toPrecision(3)}`).join(', ');
  const list = [];
  if (scenario.by_latency)
    list.push(figure('p99 against the ideal', '1× is one queue for all workers that costs nothing; shorter is better. Whiskers: least and most of the repeats.', measured, bars, () => measureChart(scenario, palette)));
  else list.push(figure(`${scenario.unit === 'requests' ? 'Requests' : 'Connections'} a second`, 'Longer is better. Whiskers: least and most of the repeats.', measured, bars, () => measureChart(scenario, palette)));
  list.push(figure('Latency, all of it', 'Lower is better; the right end is the slowest of 10,000.', measured, 300, () => distributionChart(scenario, palette)));
  if (scenario.contenders.some((c) => c.ramp.length > 1))
    list.push(figure('Until it cannot follow', 'p99 while the rate grows; the further right before it rises, the better.', measured, 300, () => rampChart(scenario, palette)));
  list.push(figure(`CPU time for a ${scenario.unit.slice(0, -1)}`, 'Of the server’s processes, user and system; shorter is better.', measured, bars, () => costChart(scenario, palette)));
  list.push(figure('Spread over the workers', 'A flat line at 1 is even.', measured, 240, () => spreadChart(scenario, palette)));
  return element('div', { class: 'figures' }, ...list);
}

function section(scenario) {
  const leaders = scenario.best.flatMap((name, i) => [i > 0 ? ', ' : '', element('b', {}, name)]);
  const verdict = leaders.length === 0
    ? element('p', { class: 'verdict bad' }, 'No policy of liblb answered in time.')
    : scenario.any_will_do
    ? element('p', { class: 'verdict' }, 'No difference shown.')
    : element('p', { class: 'verdict' }, 'Best here: ', ...leaders);
  const notes = scenario.notes.length > 0 ? element('ul', { class: 'notes' }, ...scenario.notes.map((note) => element('li', {}, note))) : null;
  return element(
    'section',
    { id: scenario.name },
    element('h2', {}, scenario.name),
    element('p', { class: 'sentence' }, scenario.sentence),
    element('p', { class: 'setup' }, `${scenario.setup}. Stands for: ${scenario.pain}`),
    verdict,
    figures(scenario),
    resultTable(scenario, palette),
    notes,
  );
}

/** A scenario that does harm: what was done, and what became of every connection. */
function harmSection(harm) {
  const lost = harm.contenders.reduce((sum, c) => sum + c.lost.refused + c.lost.reset + c.lost.timeout, 0);
  const faults = harm.contenders.reduce((sum, c) => sum + c.faults, 0);
  const own = harm.contenders.reduce((sum, c) => sum + c.with_worker + c.in_accept, 0);
  const begun = harm.contenders.reduce((sum, c) => sum + c.begun, 0);
  const troubles = harm.contenders.flatMap((c) => c.trouble.map((line) => `${c.name}: ${line}`));
  const good = lost === 0 && troubles.length === 0;
  const count = (value) => value.toLocaleString('en');
  return element(
    'section',
    { id: harm.name, class: 'harm' },
    element('h2', {}, harm.name),
    element('p', { class: 'sentence' }, harm.sentence),
    element('p', { class: 'setup' }, `${harm.setup}. Stands for: ${harm.pain}`),
    element(
      'p',
      { class: good ? 'toll good' : 'toll bad' },
      element('b', {}, good ? '0 lost' : lost > 0 ? `${count(lost)} lost` : 'Not as it should be'),
      ` of ${count(begun)} connections under ${count(faults)} faults${own > 0 ? `; ${count(own)} more went with killed workers that had accepted them` : ''}`,
    ),
    tollTable(harm, palette),
    element('ul', { class: 'notes' }, ...harm.contenders.map((c) => element('li', {}, `${c.name}: ${c.done}; a connection took ${short(c.max_ms)} ms at most`))),
    troubles.length > 0 ? element('ul', { class: 'notes bad' }, ...troubles.map((line) => element('li', {}, line))) : null,
  );
}

function footer() {
  const row = (name, ...value) => [element('dt', {}, name), element('dd', {}, ...value)];
  const versions = Object.entries(data.versions).map(([name, version]) => `${name}: ${version}`);
  return element(
    'footer',
    {},
    element(
      'dl',
      {},
      ...row('Machine', data.machine),
      ...(data.timer ? row('Timer', data.timer) : []),
      ...(data.command ? row('Repeat it', element('code', {}, data.command)) : []),
      ...row('Seed', `${data.seed}; the same seed gives the same arrivals`),
      ...(versions.length > 0 ? row('Peers', versions.join('; ')) : []),
      ...row('How to read it', 'Latency counts from when a connection was due, so a server that stands still cannot hide it. Compare within one page: machines differ.'),
    ),
  );
}

function draw() {
  page.replaceChildren(
    element('header', {}, element('p', { class: 'brand' }, 'lbbench'), element('h1', {}, data.headline), ...data.advice.map((sentence) => element('p', { class: 'advice' }, sentence))),
    legend(),
    ...data.scenarios.map(section),
    ...data.harms.map(harmSection),
    footer(),
  );
  document.title = `lbbench: ${data.headline}`;
}

function drawAll() {
  for (const [canvas] of charts.splice(0)) Chart.getChart(canvas)?.destroy();
  draw();
  useTheme();
  for (const [canvas, configure] of charts) new Chart(canvas, configure());
}

onThemeChange(drawAll);
drawAll();
