"""The demo, run by `busmon demo`: a private broker, a fleet, the simulator, one live screen, an audit of totals."""
