-- The window that was closed last is told every few seconds, of every champion; of those that were
-- closed together it is the one that was opened last.
create index window_closing on window_sketch (model, version, closed_at, number)
    where closed_at is not null;
drop index window_closed;
