// SPDX-License-Identifier: MIT
// One colour for each contender, the same in every chart. After Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any
// kind of colour vision can tell apart; the dash of the line tells them apart once more.
const LIGHT = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#8a7a00', '#6b5b95', '#555555'];
const DARK = ['#4aa8e8', '#f0b13c', '#2cc79a', '#e39ac3', '#8fd0f5', '#ff7f3f', '#d9cb3a', '#a99be0', '#bbbbbb'];
const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3], [4, 2], [1, 2]];

// Policies keep their colour from page to page; whoever else is there takes what is left, in order.
const FIXED = {
  shared: 0,
  reuseport: 2,
  'reuseport:hash': 5,
  'round-robin': 1,
  'reuseport:p2c': 4,
  'round-robin:least-loaded': 6,
};

const dark = matchMedia('(prefers-color-scheme: dark)');

export const onThemeChange = (redraw) => dark.addEventListener('change', redraw);

export function makePalette(names) {
  const index = new Map();
  for (const name of names) if (name in FIXED) index.set(name, FIXED[name]);
  const free = LIGHT.map((_, i) => i).filter((i) => ![...index.values()].includes(i));
  names.filter((name) => !index.has(name)).forEach((name, i) => index.set(name, free.length ? free[i % free.length] : i % LIGHT.length));
  return {
    color: (name) => (dark.matches ? DARK : LIGHT)[index.get(name)],
    dash: (name) => DASHES[names.indexOf(name) % DASHES.length],
  };
}

/** The page's own colours, as the style sheet has them. */
export function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
