// Asks Prometheus what a panel shows, through the page's own server, and makes Grafana's data frames of the answers.

import { FieldType, toDataFrame } from '@grafana/data';

const POINTS = 240;

const HOURLY_FROM_SECONDS = 172_800;

/** Fills in Grafana's variables: all jobs, all agents, and what depends on the time range. */
export function filled(expr, range) {
  const seconds = Math.round((range.to.valueOf() - range.from.valueOf()) / 1000);
  const [level, lasting] = seconds > HOURLY_FROM_SECONDS ? ['agent_hour', '1h'] : ['agent', '5m'];
  return expr
    .replaceAll('${level}', level)
    .replaceAll('$lasting', lasting)
    .replaceAll('$__rate_interval', '1m')
    .replaceAll('$__range', `${seconds}s`)
    .replaceAll(/\$job\b/g, '.+')
    .replaceAll(/\$agent\b/g, '.*');
}

/** The frames of a panel's queries, one for each series; for a table one for each query. */
export async function frames(panel, range) {
  const answers = await Promise.all(panel.targets.map((target) => ask(target, range)));
  return panel.targets.flatMap((target, at) =>
    target.format === 'table' ? [tableFrame(target, answers[at])] : answers[at].map((series) => frame(target, series))
  );
}

async function ask(target, range) {
  const from = range.from.valueOf() / 1000;
  const to = range.to.valueOf() / 1000;
  const step = Math.max(5, Math.round((to - from) / POINTS));
  const query = encodeURIComponent(filled(target.expr, range));
  const path = target.instant ? `query?time=${to}` : `query_range?start=${from}&end=${to}&step=${step}`;
  const answer = await (await fetch(`/api/v1/${path}&query=${query}`)).json();
  if (answer.status !== 'success') {
    throw new Error(answer.error);
  }
  return answer.data.result.map(({ metric, value, values }) => ({ metric, values: values ?? [value] }));
}

function frame(target, { metric, values }) {
  const legend = (target.legendFormat ?? '').replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '');
  const name = legend.trim() || 'Value';
  return toDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, values: values.map(([time]) => time * 1000), config: {} },
      {
        name: 'Value',
        type: FieldType.number,
        labels: metric,
        values: values.map(([, value]) => Number(value)),
        config: { displayNameFromDS: name },
      },
    ],
  });
}

function tableFrame(target, series) {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))];
  return toDataFrame({
    refId: target.refId,
    fields: [
      ...labels.map((label) => ({
        name: label,
        type: FieldType.string,
        values: series.map(({ metric }) => metric[label] ?? ''),
        config: {},
      })),
      { name: 'Value', type: FieldType.number, values: series.map(({ values }) => Number(values[0][1])), config: {} },
    ],
  });
}
