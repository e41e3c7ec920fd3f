// SPDX-License-Identifier: MIT

/** Three digits or so: 0.52, 14.3, 218, 26,600. */
export function short(value) {
  if (value === null || value === undefined) return '–';
  if (value < 9.995) return value.toFixed(2);
  if (value < 99.95) return value.toFixed(1);
  return Math.round(value).toLocaleString('en');
}

export const times = (value) => `${short(value)}×`;

export const milliseconds = (value) => `${value < 0.995 ? Number(value.toPrecision(2)) : short(value)} ms`;
