"""Operations: rules and routes of alerts, dashboards, and what runs them on this machine.

`prometheus/` and `alertmanager/` are written by hand; `grafana/` is generated from them and from
`dashboards.py` by `make grafana`.
"""
