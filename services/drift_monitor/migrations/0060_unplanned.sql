-- Versions that rows cannot be counted for are looked for every few seconds, and there are mostly none.
create index version_unplanned on version (model, version) where width is null;
