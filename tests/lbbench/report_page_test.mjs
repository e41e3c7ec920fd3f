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
  const drawn = [...document.querySelectorAll('canvas')].map((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const colors = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colors.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    const box = canvas.getBoundingClientRect();
    return { colors: colors.size, left: box.left, right: box.right };
  });
  return {
    headline: document.querySelector('h1')?.textContent,
    sections: document.querySelectorAll('section').length,
    ramps: [...document.querySelectorAll('h3')].filter((title) => title.textContent.startsWith('Until')).length,
    rows: document.querySelectorAll('td').length,
    drawn,
    scrollWidth: document.documentElement.scrollWidth,
    innerWidth: window.innerWidth,
  };
}

async function check(browser, page, name, width, colorScheme, sections, ramps) {
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
  seen.drawn.forEach((chart, i) => {
    assert.ok(chart.colors >= 2, `${what}: chart ${i} is empty`);
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
  const withRamp = join(folder, 'recorded.json');
  writeFileSync(withRamp, JSON.stringify(file));
  execFileSync(lbbench, ['report', withRamp, '--html', recorded], quiet);
  const options = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  browser = await driver.launch({ executablePath: chromium, args: ['--no-sandbox', ...options] });
  await check(browser, measured, 'measured', 390, 'light', 1, 0);
  for (const width of [1280, 390])
    for (const colorScheme of ['light', 'dark']) await check(browser, recorded, 'recorded', width, colorScheme, 2, 1);
} finally {
  await browser?.close();
  rmSync(folder, { recursive: true });
}
