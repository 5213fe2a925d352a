-- The digest of a window's sketch as it was said with its verdict; null for windows of before.
alter table window_sketch add column digest text;
