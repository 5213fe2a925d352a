-- Critical windows are looked for again and again, to draw a report of each; there are few of them.
create index window_critical on window_sketch (model, version, number) where severity = 'critical';
create index report_of_version on report (model, version, "window");
