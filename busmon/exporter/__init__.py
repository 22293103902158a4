"""The HTTP side: `checks` → `readiness` → `overview` → `metrics`; `access` guards all of it, `server` serves it."""
