// SPDX-License-Identifier: MIT
import { element } from './dom.js';
import { short } from './format.js';

// title, figure of a contender, figure of the ideal, and which of them is the best
const COLUMNS = [
  ['p50 ms', (c) => c.latency.p50, (i) => i.latency.p50, 'low'],
  ['p90', (c) => c.latency.p90, (i) => i.latency.p90, 'low'],
  ['p99', (c) => c.latency.p99, (i) => i.latency.p99, 'low'],
  ['p99.9', (c) => c.latency.p99_9, (i) => i.latency.p99_9, 'low'],
  ['p99.99', (c) => c.latency.p99_99, (i) => i.latency.p99_99, 'low'],
  ['max', (c) => c.latency.max, (i) => i.latency.max, 'low'],
  ['/s', (c) => c.throughput, null, null],
  ['busiest / mean', (c) => c.share, null, 'low'],
  ['workers µs', (c) => c.workers_us, null, 'low'],
  ['primary µs', (c) => c.primary_us, null, null],
  ['lost', (c) => c.lost, null, null],
];

export function resultTable(scenario, palette) {
  const best = COLUMNS.map(([, of, , which]) => {
    const values = scenario.contenders.map(of).filter((value) => value !== null);
    return which === 'low' ? Math.min(...values) : null;
  });
  const cell = (text, attributes) => element('td', attributes, text);
  const head = element('tr', {}, element('th', { scope: 'col' }, 'medians, best in bold'), ...COLUMNS.map(([name]) => element('th', { scope: 'col' }, name === '/s' ? `${scenario.unit}/s` : name)));
  const rows = [head];
  if (scenario.ideal)
    rows.push(
      element('tr', { class: 'ideal' }, element('th', { scope: 'row' }, 'ideal (simulated)'), ...COLUMNS.map(([, , of]) => cell(of ? short(of(scenario.ideal)) : ''))),
    );
  for (const contender of scenario.contenders) {
    const name = element('th', { scope: 'row' }, element('i', { class: 'swatch', style: `background:${palette.color(contender.name)}` }), contender.name);
    rows.push(
      element(
        'tr',
        {},
        name,
        ...COLUMNS.map(([title, of], i) => {
          const value = of(contender);
          return cell(title === 'lost' ? value.toLocaleString('en') : short(value), best[i] !== null && value === best[i] ? { class: 'best' } : {});
        }),
      ),
    );
  }
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `Figures of ${scenario.name}` }, element('table', {}, ...rows));
}

const TOLLS = [
  ['LOST', (c) => c.lost.refused + c.lost.reset + c.lost.timeout],
  ['refused', (c) => c.lost.refused],
  ['reset', (c) => c.lost.reset],
  ['timed out', (c) => c.lost.timeout],
  ['completed', (c) => c.completed],
  ['left by clients', (c) => c.left],
  ['with killed worker', (c) => c.with_worker],
  ['in its accept', (c) => c.in_accept],
];

/** What became of the connections of each contender; those that went with a killed worker had been accepted by it, as promised. */
export function tollTable(harm, palette) {
  const head = element('tr', {}, element('th', { scope: 'col' }, 'connections'), ...TOLLS.map(([name]) => element('th', { scope: 'col' }, name)));
  const rows = harm.contenders.map((contender) =>
    element(
      'tr',
      {},
      element('th', { scope: 'row' }, element('i', { class: 'swatch', style: `background:${palette.color(contender.name)}` }), contender.name),
      ...TOLLS.map(([title, of]) => {
        const value = of(contender);
        return element('td', title === 'LOST' ? { class: value > 0 ? 'lost' : 'best' } : {}, value.toLocaleString('en'));
      }),
    ),
  );
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `Losses of ${harm.name}` }, element('table', {}, head, ...rows));
}
