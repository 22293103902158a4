// One component for each kind of panel: Grafana's own where @grafana/ui has it, else a stand-in that says so.

import React from 'react';
import { FieldType, formattedValueToString, getFieldDisplayValues, getValueFormat } from '@grafana/data';
import { BarGauge, BigValue, Table, TimeSeries } from '@grafana/ui';
import { frames as ask } from './queries.js';
import { applied } from './fields.js';

const NAMES_WIDTH = 110;
const TIMES_HEIGHT = 18;
const WARM = ['#2b2118', '#5c3317', '#a04a14', '#d97716', '#f2a93b', '#fbe3a2'];

export function Kind({ panel, width, height, range, theme, onDone }) {
  const [state, setState] = React.useState({});
  React.useEffect(() => {
    ask(panel, range)
      .then((frames) => setState({ frames: applied(frames, panel, theme) }))
      .catch((error) => setState({ error: error.message }));
  }, []);
  React.useEffect(() => {
    if (state.frames || state.error) {
      onDone({ title: panel.title, error: state.error, series: state.frames?.filter(hasValues).length ?? 0 });
    }
  }, [state]);
  if (state.error) {
    return <div style={{ color: theme.colors.error.text }}>{state.error}</div>;
  }
  if (!state.frames) {
    return null;
  }
  if (!state.frames.some((frame) => frame.length)) {
    return <Centred height={height}>No data</Centred>;
  }
  const Drawn = KINDS[panel.type];
  return <Drawn panel={panel} frames={state.frames} width={width} height={height} range={range} theme={theme} />;
}

function hasValues(frame) {
  return frame.fields.some(({ type, values }) => type === FieldType.number && values.some(Number.isFinite));
}

function Centred({ height, children }) {
  return <div style={{ height, display: 'grid', placeItems: 'center', opacity: 0.6 }}>{children}</div>;
}

function Lines({ panel, frames, width, height, range }) {
  const legend = { calcs: [], ...panel.options.legend };
  return (
    <TimeSeries frames={frames} timeRange={range} timeZone="utc" width={width} height={height} legend={legend} options={{}} />
  );
}

function displayed(panel, frames, theme) {
  return getFieldDisplayValues({
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    data: frames,
    theme,
    timeZone: 'utc',
    sparkline: panel.type === 'stat',
  });
}

function Stat({ panel, frames, width, height, theme }) {
  const [value] = displayed(panel, frames, theme);
  const { colorMode, graphMode } = panel.options;
  return (
    <BigValue
      theme={theme} width={width} height={height} value={{ ...value.display, title: undefined }}
      sparkline={value.sparkline} colorMode={colorMode} graphMode={graphMode}
    />
  );
}

function Bars({ panel, frames, width, height, theme }) {
  const values = displayed(panel, frames, theme);
  // Grafana draws all bars of a panel to one scale: to the largest value where the panel sets no maximum.
  const top = panel.fieldConfig.defaults.max ?? Math.max(...values.map(({ display }) => display.numeric)) * 1.05;
  const bar = Math.min(panel.options.maxVizHeight, height / values.length);
  const title = values.reduce((longest, { display }) => (display.title.length > longest.length ? display.title : longest), '');
  const text = values.reduce(
    (longest, { display }) => (formattedValueToString(display).length > formattedValueToString(longest).length ? display : longest),
    values[0].display
  );
  return values.map((value, at) => (
    <div key={at} style={{ height: bar }}>
      <BarGauge
        theme={theme} width={width} height={bar - 6} value={value.display} field={{ ...value.field, min: 0, max: top }}
        orientation="horizontal" displayMode="basic" showUnfilled alignmentFactors={{ ...text, title: `${title}mm` }}
      />
    </div>
  ));
}

function Listing({ panel, frames, width, height }) {
  const { indexByName, renameByName } = panel.transformations.find(({ id }) => id === 'organize').options;
  const [frame] = frames;
  const chosen = frame.fields
    .filter(({ name }) => name in indexByName)
    .sort((one, other) => indexByName[one.name] - indexByName[other.name])
    .map((field) => ({ ...field, name: renameByName[field.name], config: { ...field.config, ...unit(panel, renameByName[field.name]) } }));
  const order = [...frame.fields.find(({ name }) => name === 'Value').values.keys()].sort(
    (one, other) => chosen.at(-1).values[other] - chosen.at(-1).values[one]
  );
  const format = (field, value) =>
    typeof value === 'number' ? formattedValueToString(getValueFormat(field.config.unit)(value, 1)) : value;
  const data = {
    ...frame,
    fields: chosen.map((field) => ({
      ...field,
      values: order.map((row) => field.values[row]),
      display: (value) => ({ text: String(format(field, value)), numeric: Number(value) }),
    })),
  };
  return <Table data={data} width={width} height={height} />;
}

function unit(panel, name) {
  const override = panel.fieldConfig.overrides.find(({ matcher }) => matcher.options === name);
  return Object.fromEntries((override?.properties ?? []).map(({ id, value }) => [id, value]));
}

/** A stand-in for Grafana's heatmap, which @grafana/ui doesn't export: a row for each series, darker is less. */
function Heatmap({ panel, frames, width, height, range }) {
  const format = getValueFormat(panel.options.yAxis.unit);
  const isBuckets = panel.targets[0].format === 'heatmap';
  const rows = frames.map((frame) => ({ name: frame.name, times: frame.fields[0].values, values: frame.fields[1].values }));
  const ordered = isBuckets ? differences(rows) : rows.sort((one, other) => other.name.localeCompare(one.name));
  const top = Math.max(...ordered.flatMap(({ values }) => [...values]), Number.MIN_VALUE);
  const label = (name) => (isBuckets ? (name === '+Inf' ? '> 10 s' : `≤ ${formattedValueToString(format(Number(name)))}`) : name);
  return (
    <Grid {...{ rows: ordered, width, height, range, label }} colour={(value) => WARM[Math.ceil((value / top) * (WARM.length - 1))]} />
  );
}

// Prometheus' buckets are cumulative; Grafana's heatmap shows what each holds alone.
function differences(rows) {
  const bound = ({ name }) => (name === '+Inf' ? Infinity : Number(name));
  const rising = [...rows].sort((one, other) => bound(one) - bound(other));
  return rising
    .map((row, at) => ({ ...row, values: row.values.map((value, time) => Math.max(0, value - (at ? rising[at - 1].values[time] : 0))) }))
    .reverse();
}

/** A stand-in for Grafana's state timeline, which @grafana/ui doesn't export. */
function Timeline({ panel, frames, width, height, range, theme }) {
  const words = Object.assign({}, ...panel.fieldConfig.defaults.mappings.map(({ options }) => options));
  const rows = frames.map((frame) => ({ name: frame.name, times: frame.fields[0].values, values: frame.fields[1].values }));
  const legend = Object.values(words).map(({ text, color }) => (
    <span key={text} style={{ marginRight: 12 }}>
      <b style={{ color: theme.visualization.getColorByName(color) }}>■</b> {text}
    </span>
  ));
  return (
    <>
      <Grid
        {...{ rows, width, height: height - 20, range, label: (name) => name }} gap={6}
        colour={(value) => theme.visualization.getColorByName(words[value]?.color ?? 'gray')}
      />
      <div style={{ fontSize: 12 }}>{legend}</div>
    </>
  );
}

function Grid({ rows, width, height, range, label, colour, gap = 1 }) {
  const tall = (height - TIMES_HEIGHT) / rows.length;
  const [from, to] = [range.from.valueOf(), range.to.valueOf()];
  const x = (time) => NAMES_WIDTH + ((time - from) / (to - from)) * (width - NAMES_WIDTH);
  const times = [0.1, 0.35, 0.6, 0.85].map((part) => from + part * (to - from));
  return (
    <svg width={width} height={height} style={{ display: 'block', fontSize: 11 }}>
      {rows.map(({ name, times: at, values }, row) => (
        <g key={name}>
          <text x={NAMES_WIDTH - 6} y={(row + 0.5) * tall + 4} textAnchor="end" fill="currentColor">{label(name)}</text>
          {[...at].map((time, cell) => (
            <rect
              key={time} x={x(time)} y={row * tall + gap / 2} height={tall - gap} fill={colour(values[cell])}
              width={Math.max(1, x(at[cell + 1] ?? to) - x(time) + 0.5)}
            />
          ))}
        </g>
      ))}
      {times.map((time) => (
        <text key={time} x={x(time)} y={height - 4} textAnchor="middle" fill="currentColor" opacity="0.7">
          {new Date(time).toISOString().slice(11, 16)}
        </text>
      ))}
      <text x={0} y={height - 4} fill="currentColor" opacity="0.45">stand-in</text>
    </svg>
  );
}

const KINDS = {
  timeseries: Lines,
  stat: Stat,
  bargauge: Bars,
  table: Listing,
  heatmap: Heatmap,
  'state-timeline': Timeline,
};
