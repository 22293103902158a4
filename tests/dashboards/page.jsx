// Draws one dashboard as Grafana would lay it out, with Grafana's own components. It is a tool for tests and pictures: not
// Grafana. The address says which: /?dashboard=system&from=UNIX&to=UNIX. When all is drawn, `window.drawn` lists each
// panel with the number of its series, or with its error.

import React from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome, PanelContextProvider } from '@grafana/ui';
import { Kind } from './kinds.jsx';

const WIDTH = 1600;
const COLUMN = WIDTH / 24;
const ROW = 36;
const GAP = 4;
const HEAD = 64;
const HIDDEN = 2;

const theme = createTheme({ colors: { mode: 'dark' } });
const nothing = { subscribe: () => ({ unsubscribe() {} }), pipe: () => nothing };
const bus = { getStream: () => nothing, publish() {}, subscribe: nothing.subscribe, newScopedBus: () => bus };

function Dashboard({ dashboard, range }) {
  const drawn = React.useRef([]);
  const panels = dashboard.panels.filter(({ type }) => type !== 'row');
  const done = (report) => {
    drawn.current.push(report);
    if (drawn.current.length === panels.length) {
      // The charts are painted in the frame after their data.
      requestAnimationFrame(() => requestAnimationFrame(() => (window.drawn = drawn.current)));
    }
  };
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <div style={{ position: 'relative', width: WIDTH, height: HEAD + bottom * ROW + GAP }}>
      <Head dashboard={dashboard} range={range} />
      {dashboard.panels.map((panel) => (
        <div key={panel.id} style={{ position: 'absolute', left: panel.gridPos.x * COLUMN + GAP, top: HEAD + panel.gridPos.y * ROW + GAP }}>
          {panel.type === 'row' ? <h5 style={{ margin: '8px 4px' }}>⌄ {panel.title}</h5> : <Framed panel={panel} range={range} onDone={done} />}
        </div>
      ))}
    </div>
  );
}

function Head({ dashboard, range }) {
  const shown = dashboard.templating.list.filter(({ hide }) => hide !== HIDDEN);
  const chosen = shown.map(({ label, type }) => `${label}: ${type === 'datasource' ? 'Prometheus' : 'All'}`);
  const times = [range.from, range.to].map((time) => time.toISOString().slice(11, 16)).join(' to ');
  return (
    <div style={{ padding: '10px 12px' }}>
      <h3 style={{ display: 'inline', marginRight: 16 }}>{dashboard.title}</h3>
      <span style={{ opacity: 0.7 }}>{dashboard.description}</span>
      <div style={{ fontSize: 12, opacity: 0.7 }}>
        {chosen.join('   ·   ')}   ·   {times} UTC   ·   drawn for a test with Grafana's components, not by Grafana
      </div>
    </div>
  );
}

function Framed({ panel, range, onDone }) {
  const width = panel.gridPos.w * COLUMN - 2 * GAP;
  const height = panel.gridPos.h * ROW - 2 * GAP;
  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
      {(innerWidth, innerHeight) => (
        <Kind panel={panel} width={innerWidth} height={innerHeight} range={range} theme={theme} onDone={onDone} />
      )}
    </PanelChrome>
  );
}

const asked = new URLSearchParams(window.location.search);
const [from, to] = ['from', 'to'].map((end) => dateTime(Number(asked.get(end)) * 1000));
const range = { from, to, raw: { from, to } };
const dashboard = await (await fetch(`/dashboards/${asked.get('dashboard')}.json`)).json();
document.body.style.background = theme.colors.background.canvas;
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PanelContextProvider value={{ eventsScope: 'dashboard', eventBus: bus }}>
      <Dashboard dashboard={dashboard} range={range} />
    </PanelContextProvider>
  </ThemeContext.Provider>
);
