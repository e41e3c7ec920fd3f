// SPDX-License-Identifier: MIT
// report_page_test.mjs LBBENCH NODE_MODULES CHROMIUM [SCREENSHOTS]: the page of a real run and of a recorded one, in headless Chromium: every
// chart is drawn, nothing complains, nothing is asked of the network, and nothing is wider than the window.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const [lbbench, modules, chromium, screenshots] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));

function skip(reason) {
  const required = process.env.LB_REQUIRE_PRIVILEGED === '1';
  console.log(`${required ? 'FAILED' : 'SKIPPED'}: ${reason}`);
  process.exit(required ? 1 : 77);
}
if (!chromium || !existsSync(chromium)) skip('chromium is not installed');
if (!existsSync(join(modules, 'playwright-core'))) skip('lbbench was built without the report page');

const { chromium: driver } = createRequire(join(resolve(modules), 'package.json'))('playwright-core');
const folder = mkdtempSync(join(tmpdir(), 'lbbench-page-'));
const quiet = { stdio: ['ignore', 'ignore', 'inherit'] };

/** What is in the page, seen from inside. */
function look() {
  // What belongs to a contender, and to no axis or grid, has its colour.
  const contenders = [...document.querySelectorAll('.legend .swatch:not(.dashed)')].map((swatch) => getComputedStyle(swatch).backgroundColor);
  const drawn = [...document.querySelectorAll('canvas')].map((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const pixels = new Map();
    for (let i = 0; i < data.length; i += 4) {
      const color = `rgb(${data[i]}, ${data[i + 1]}, ${data[i + 2]})`;
      if (data[i + 3] > 200) pixels.set(color, (pixels.get(color) ?? 0) + 1);
    }
    const box = canvas.getBoundingClientRect();
    const title = canvas.closest('figure').querySelector('h3').textContent;
    return { title, pixels: contenders.map((color) => pixels.get(color) ?? 0), left: box.left, right: box.right };
  });
  return {
    headline: document.querySelector('h1')?.textContent,
    sections: document.querySelectorAll('section:not(.harm)').length,
    tolls: [...document.querySelectorAll('.harm .toll')].map((toll) => toll.textContent),
    ramps: [...document.querySelectorAll('h3')].filter((title) => title.textContent.startsWith('Until')).length,
    rows: document.querySelectorAll('td').length,
    drawn,
    scrollWidth: document.documentElement.scrollWidth,
    innerWidth: window.innerWidth,
  };
}

/** In a chart with bars every contender has one; lines may lie on each other. */
function assertDrawn(chart, what) {
  const lines = /^(Latency|Until|Spread)/.test(chart.title);
  const seen = chart.pixels.filter((count) => count >= 40).length;
  assert.ok(lines ? seen > 0 : seen === chart.pixels.length, `${what}: "${chart.title}" is empty: pixels of each contender: ${chart.pixels}`);
}

async function check(browser, page, name, width, colorScheme, sections, ramps, tolls = []) {
  const what = `${name}, ${width} px, ${colorScheme}`;
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const tab = await context.newPage();
  const complaints = [];
  const url = pathToFileURL(page).href;
  tab.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  tab.on('pageerror', (error) => complaints.push(String(error)));
  tab.on('request', (request) => request.url() !== url && complaints.push(`asked for ${request.url()}`));
  await tab.goto(url);
  await tab.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const seen = await tab.evaluate(look);
  if (screenshots) await tab.screenshot({ path: join(screenshots, `${name}-${width}-${colorScheme}.png`), fullPage: true });
  await context.close();
  assert.deepEqual(complaints, [], what);
  assert.match(seen.headline, /^Take /, what);
  assert.equal(seen.sections, sections, what);
  assert.equal(seen.ramps, ramps, what);
  assert.equal(seen.drawn.length, 4 * sections + ramps, what);
  assert.ok(seen.rows > 0, what);
  assert.deepEqual(seen.tolls, tolls, what);
  seen.drawn.forEach((chart, i) => {
    assertDrawn(chart, what);
    assert.ok(chart.left >= 0 && chart.right <= width, `${what}: chart ${i} is outside the window`);
  });
  assert.ok(seen.scrollWidth <= seen.innerWidth, `${what}: ${seen.scrollWidth} px of content in ${seen.innerWidth} px`);
  console.log(`ok: ${what}`);
}

let browser;
try {
  const measured = join(folder, 'measured.html');
  const recorded = join(folder, 'recorded.html');
  execFileSync(lbbench, ['run', '--scenario', 'mixed', '--policy', 'shared', '--duration', '0.2', '--html', measured], quiet);
  // A ramp takes a minute to measure: this one is made up, in the form that a file has it.
  const file = JSON.parse(readFileSync(join(here, 'recorded.json'), 'utf8'));
  for (const run of file.results.filter(({ scenario }) => scenario === 'connect'))
    run.extra.ramp = [1, 2, 3].map((n) => ({ offered_per_s: 5000 * n, throughput_per_s: 4900 * n, latency_ms: { ...run.latency_ms, p99: 3 ** n }, ideal_ms: run.latency_ms }));
  // So are these losses, which nobody should ever measure.
  const base = file.results.find(({ scenario }) => scenario === 'connect');
  const harmed = (policy, lost, trouble) => ({
    ...base,
    policy,
    scenario: 'crash',
    completed: 970,
    lost: { refused: 0, reset: lost, timeout: 0 },
    extra: {
      ...base.extra,
      ramp: [],
      faults: {
        ...{ done: { kills: 20 }, seconds: 3, begun: 1000, left: 0, lost_with_worker: 30 - lost, lost_in_accept: 0, taken_twice: 0, dropped: 0 },
        ...{ workers_ever: 28, rolls_failed: 0, changes_failed: 0, processes_left: 0, primary_descriptors: [30, 31, 30] },
        ...{ primary_memory_kib: [400, 410, 410], trouble },
      },
    },
  });
  file.results.push(harmed('shared', 0, []), harmed('reuseport', 2, ['lost 0 refused, 2 reset, 0 timed out']));
  const withRamp = join(folder, 'recorded.json');
  writeFileSync(withRamp, JSON.stringify(file));
  execFileSync(lbbench, ['report', withRamp, '--html', recorded], quiet);
  const options = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  browser = await driver.launch({ executablePath: chromium, args: ['--no-sandbox', ...options] });
  await check(browser, measured, 'measured', 390, 'light', 1, 0);
  for (const width of [1280, 390])
    for (const colorScheme of ['light', 'dark']) await check(browser, recorded, 'recorded', width, colorScheme, 2, 1, ['2 lost of 2,000 connections under 40 faults; 58 more went with killed workers that had accepted them']);
} finally {
  await browser?.close();
  rmSync(folder, { recursive: true });
}
