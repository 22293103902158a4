"""The landing page: what there is to ask for, with links. Plain HTML without script, style or image."""

_QUESTIONS = {
    "/metrics": "the exposition, for Prometheus",
    "/health": "alive or dead",
    "/ready": "ready or not, and why",
    "/overview": "the figures that <code>busmon top</code> shows, as JSON",
}

_LINKS = "\n".join(f'<li><a href="{path}">{path}</a>: {meaning}</li>' for path, meaning in _QUESTIONS.items())

PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>busmon</title></head>
<body>
<h1>busmon</h1>
<p>Telemetry from RabbitMQ, for Prometheus.</p>
<ul>
{_LINKS}
</ul>
</body>
</html>
"""
