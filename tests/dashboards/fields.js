// Applies a panel's units, thresholds, colours and mappings to its frames, with Grafana's own code.

import { applyFieldOverrides, FieldType, Registry } from '@grafana/data';

const STANDARD = ['unit', 'decimals', 'min', 'max', 'displayName', 'noValue', 'mappings', 'thresholds', 'color', 'links'];
const CUSTOM = [
  'drawStyle', 'lineInterpolation', 'lineWidth', 'fillOpacity', 'gradientMode', 'showPoints', 'pointSize', 'spanNulls',
  'stacking', 'axisPlacement', 'axisLabel', 'scaleDistribution', 'hideFrom', 'thresholdsStyle', 'lineStyle',
  'axisSoftMin', 'axisSoftMax', 'axisCenteredZero', 'axisGridShow', 'axisColorMode', 'axisBorderShow', 'barAlignment',
  'insertNulls',
];

function item(name, isCustom) {
  return {
    id: isCustom ? `custom.${name}` : name,
    path: name, name, isCustom,
    process: (value) => value,
    shouldApply: (field) => field.type !== FieldType.time,
    override: (value) => value,
    editor: () => null,
  };
}

// Without a registry, Grafana's code ignores units and thresholds silently.
const registry = new Registry(() => [...STANDARD.map((name) => item(name, false)), ...CUSTOM.map((name) => item(name, true))]);

const DEFAULTS = { color: { mode: 'palette-classic' } };
const LINE = { drawStyle: 'line', lineWidth: 1, fillOpacity: 0, showPoints: 'never', lineInterpolation: 'linear' };

/** The frames as Grafana's components take them. */
export function applied(frames, panel, theme) {
  const config = panel.fieldConfig;
  const defaults = { ...DEFAULTS, ...config.defaults, custom: { ...LINE, ...config.defaults.custom } };
  const numbered = frames.map((frame, seriesIndex) => ({
    ...frame,
    fields: frame.fields.map((field) => ({ ...field, state: { seriesIndex } })),
  }));
  return applyFieldOverrides({
    data: numbered,
    fieldConfig: { defaults, overrides: config.overrides ?? [] },
    fieldConfigRegistry: registry,
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
}
