-- Which artifact answered, and by which state of the endpoint, so that one answer can be explained.
-- Null for what was answered before both were kept.
alter table prediction
    add column manifest   text,
    add column generation integer;
