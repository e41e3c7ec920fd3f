// SPDX-License-Identifier: MIT
// Each function makes the configuration of one chart from a scenario's data.
import {
  BarController,
  BarElement,
  CategoryScale,
  Chart,
  LinearScale,
  LineController,
  LineElement,
  LogarithmicScale,
  PointElement,
  Tooltip,
} from 'chart.js';
import { milliseconds, short, times } from './format.js';
import { themeColor } from './palette.js';

Chart.register(
  BarController,
  BarElement,
  CategoryScale,
  LinearScale,
  LineController,
  LineElement,
  LogarithmicScale,
  PointElement,
  Tooltip,
);
Chart.defaults.animation = false;
Chart.defaults.maintainAspectRatio = false;
Chart.defaults.font.family = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

const IDEAL = 'ideal';

export function useTheme() {
  Chart.defaults.color = themeColor('quiet');
  Chart.defaults.borderColor = themeColor('line');
}

/** Figures at the ends of horizontal bars, so that nobody has to read them off an axis, and whiskers from least to most. */
const barFigures = {
  id: 'barFigures',
  afterDatasetsDraw(chart, _, { figures, ranges }) {
    const { ctx } = chart;
    const bars = chart.getDatasetMeta(chart.data.datasets.length - 1).data;
    ctx.save();
    ctx.font = `600 13px ${Chart.defaults.font.family}`;
    ctx.textBaseline = 'middle';
    bars.forEach((bar, i) => {
      let end = bar.x;
      if (ranges?.[i]) {
        const [from, to] = ranges[i].map((value) => chart.scales.x.getPixelForValue(value));
        if (to - from > 1) {
          ctx.strokeStyle = themeColor('text');
          ctx.lineWidth = 1.5;
          ctx.beginPath();
          ctx.moveTo(from, bar.y);
          ctx.lineTo(to, bar.y);
          for (const x of [from, to]) {
            ctx.moveTo(x, bar.y - 4);
            ctx.lineTo(x, bar.y + 4);
          }
          ctx.stroke();
          end = Math.max(end, to);
        }
      }
      ctx.fillStyle = themeColor('text');
      ctx.fillText(figures[i], end + 7, bar.y);
    });
    ctx.restore();
  },
};

/** A line across the bars at the ideal. */
const idealLine = {
  id: 'idealLine',
  beforeDatasetsDraw(chart, _, { at }) {
    if (at === undefined) return;
    const { ctx, chartArea, scales } = chart;
    const x = scales.x.getPixelForValue(at);
    ctx.save();
    ctx.strokeStyle = themeColor('text');
    ctx.setLineDash([3, 3]);
    ctx.beginPath();
    ctx.moveTo(x, chartArea.top);
    ctx.lineTo(x, chartArea.bottom);
    ctx.stroke();
    ctx.restore();
  },
};

const NINES = [
  [Math.log10(2), '50 %'],
  [1, '90 %'],
  [2, '99 %'],
  [3, '99.9 %'],
  [4, '99.99 %'],
];
const percentOf = (nines) => `${Number((100 * (1 - 10 ** -nines)).toPrecision(Math.max(2, Math.ceil(nines) + 2)))} %`;

const title = (text) => ({ display: true, text, color: themeColor('quiet'), font: { size: 12 } });

/** 1, 2 and 5 of each decade; Chart.js would label them all. */
function logTicks(axis) {
  const decades = Math.log10(axis.max / axis.min);
  const wanted = decades > 3.5 ? [1] : decades > 2 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let e = Math.floor(Math.log10(axis.min)); e <= Math.ceil(Math.log10(axis.max)); ++e)
    for (const digit of wanted) ticks.push({ value: Number((digit * 10 ** e).toPrecision(3)) });
  axis.ticks = ticks.filter(({ value }) => value >= axis.min * 0.999 && value <= axis.max * 1.001);
}

/** p99 against the ideal, or connections a second: the figure that the verdict goes by. */
export function measureChart(scenario, palette) {
  const { contenders, by_latency: byLatency } = scenario;
  const values = contenders.map((c) => c.measure.median);
  const most = Math.max(...contenders.map((c) => c.measure.max));
  const spreads = byLatency && most > 12; // one bar would leave nothing to see of the others
  return {
    type: 'bar',
    data: {
      labels: contenders.map((c) => c.name),
      datasets: [{ data: values, backgroundColor: contenders.map((c) => palette.color(c.name)), borderRadius: 3, maxBarThickness: 34, base: spreads ? 0.5 : 0 }],
    },
    options: {
      indexAxis: 'y',
      scales: {
        x: {
          type: spreads ? 'logarithmic' : 'linear',
          min: spreads ? 0.5 : 0,
          suggestedMax: most * 1.12, // room for the figures
          ticks: { maxRotation: 0, callback: (value) => (byLatency ? `${value}×` : value.toLocaleString('en')), maxTicksLimit: 5 },
          afterBuildTicks: spreads ? logTicks : undefined,
          grid: { drawTicks: false },
          border: { display: false },
        },
        y: { grid: { display: false }, ticks: { color: themeColor('text'), font: { size: 13 } } },
      },
      plugins: {
        barFigures: {
          figures: values.map(byLatency ? times : short),
          ranges: contenders.map((c) => [c.measure.min, c.measure.max]),
        },
        idealLine: { at: byLatency && scenario.ideal ? 1 : undefined },
        tooltip: {
          callbacks: {
            label: ({ dataIndex }) => {
              const { median, min, max } = contenders[dataIndex].measure;
              return `median ${short(median)}, from ${short(min)} to ${short(max)}`;
            },
          },
        },
      },
    },
    plugins: [barFigures, idealLine],
  };
}

/** What part of the connections took no longer than what. */
export function distributionChart(scenario, palette) {
  const line = ({ name, curve }, style) => ({
    label: name,
    data: curve.map(([x, y]) => ({ x, y })),
    borderWidth: 2.2,
    pointRadius: 0,
    pointHitRadius: 6,
    tension: 0,
    ...style,
  });
  const datasets = scenario.contenders.map((c) => {
    const color = palette.color(c.name);
    return line(c, { borderColor: color, backgroundColor: color, borderDash: palette.dash(c.name) });
  });
  if (scenario.ideal) {
    const color = themeColor('text');
    datasets.push(line({ name: IDEAL, curve: scenario.ideal.curve }, { borderColor: color, backgroundColor: color, borderWidth: 1.2, borderDash: [3, 3] }));
  }
  return {
    type: 'line',
    data: { datasets },
    options: {
      interaction: { mode: 'index', axis: 'x', intersect: false },
      scales: {
        x: {
          type: 'linear',
          min: 0,
          max: 4,
          title: title('of the connections took no longer than'),
          afterBuildTicks: (axis) => (axis.ticks = NINES.map(([value]) => ({ value }))),
          ticks: { callback: (value) => NINES.find(([at]) => at === value)?.[1], autoSkip: false, maxRotation: 0 },
        },
        y: {
          type: 'logarithmic',
          title: title('ms, log scale'),
          afterBuildTicks: logTicks,
          ticks: { callback: (value) => value.toLocaleString('en', { maximumSignificantDigits: 3 }) },
        },
      },
      plugins: {
        tooltip: {
          callbacks: {
            title: ([item]) => `${percentOf(item.parsed.x)} took no longer than`,
            label: ({ dataset, parsed }) => ` ${dataset.label}: ${milliseconds(parsed.y)}`,
          },
        },
      },
    },
  };
}

/** The busiest worker of each contender first: flat is fair. */
export function spreadChart(scenario, palette) {
  const most = Math.max(...scenario.contenders.map((c) => c.workers.length));
  return {
    type: 'line',
    data: {
      labels: Array.from({ length: most }, (_, i) => i + 1),
      datasets: scenario.contenders.map((c) => {
        const mean = c.workers.reduce((sum, n) => sum + n, 0) / c.workers.length;
        const color = palette.color(c.name);
        return {
          label: c.name,
          data: c.workers.map((n) => (mean > 0 ? n / mean : 0)),
          borderColor: color,
          backgroundColor: color,
          borderDash: palette.dash(c.name),
          borderWidth: 1.8,
          pointRadius: most > 32 ? 0 : 3,
        };
      }),
    },
    options: {
      interaction: { mode: 'index', intersect: false },
      scales: {
        x: { title: title('workers, busiest first'), grid: { display: false }, ticks: { maxTicksLimit: 9, maxRotation: 0 } },
        y: { beginAtZero: true, suggestedMax: 1.5, title: title('connections over the mean') },
      },
      plugins: {
        tooltip: {
          callbacks: {
            title: ([item]) => `number ${item.label} from the busiest`,
            label: ({ dataset, parsed }) => ` ${dataset.label}: ${times(parsed.y)} the mean`,
          },
        },
      },
    },
  };
}

/** What the server's processes spent on a connection: the workers in the contender's colour, the primary hatched out of the text's. */
export function costChart(scenario, palette) {
  const { contenders } = scenario;
  const part = (label, key, backgroundColor) => ({ label, data: contenders.map((c) => c[key]), backgroundColor, maxBarThickness: 34, borderRadius: 2 });
  return {
    type: 'bar',
    data: {
      labels: contenders.map((c) => c.name),
      datasets: [
        part('workers', 'workers_us', contenders.map((c) => palette.color(c.name))),
        part('primary', 'primary_us', themeColor('quiet')),
      ],
    },
    options: {
      indexAxis: 'y',
      scales: {
        x: { stacked: true, suggestedMax: 1.15 * Math.max(...contenders.map((c) => c.workers_us + c.primary_us)), title: title('µs: workers in colour, primary in grey'), ticks: { maxTicksLimit: 5 }, border: { display: false } },
        y: { stacked: true, grid: { display: false }, ticks: { color: themeColor('text'), font: { size: 13 } } },
      },
      plugins: {
        barFigures: { figures: contenders.map((c) => short(c.workers_us + c.primary_us)) },
        tooltip: { callbacks: { label: ({ dataset, parsed }) => ` ${dataset.label}: ${short(parsed.x)} µs` } },
      },
    },
    plugins: [barFigures],
  };
}

/** p99 over the rate, which grows until a contender cannot follow. */
export function rampChart(scenario, palette) {
  return {
    type: 'line',
    data: {
      datasets: scenario.contenders
        .filter((c) => c.ramp.length > 0)
        .map((c) => {
          const color = palette.color(c.name);
          return {
            label: c.name,
            data: c.ramp.map((step) => ({ x: step.offered, y: step.p99 })),
            borderColor: color,
            backgroundColor: color,
            borderDash: palette.dash(c.name),
            borderWidth: 2.2,
            pointRadius: 2.5,
          };
        }),
    },
    options: {
      interaction: { mode: 'nearest', axis: 'x', intersect: false },
      scales: {
        x: { type: 'linear', title: title('connections offered a second'), ticks: { maxTicksLimit: 6, maxRotation: 0 } },
        y: { type: 'logarithmic', title: title('p99 in ms, log scale'), afterBuildTicks: logTicks },
      },
      plugins: {
        tooltip: {
          callbacks: {
            title: ([item]) => `${short(item.parsed.x)} offered a second`,
            label: ({ dataset, parsed }) => ` ${dataset.label}: p99 ${milliseconds(parsed.y)}`,
          },
        },
      },
    },
  };
}

export { Chart };
