-- Rounds that look at what is due, not at everything.

-- When a model is looked at because of time alone, null for not at all; what comes for it brings
-- that forward, though not before `not_before`. `left_over` has unlabelled predictions by the steps
-- of their ages: it is counted anew at `left_until`, or once the model has `left_labels` labels.
alter table label_delay
    add column due_at      timestamptz default '-infinity',
    add column not_before  timestamptz not null default '-infinity',
    add column left_over   double precision[],
    add column left_at     timestamptz,
    add column left_until  timestamptz,
    add column left_labels bigint;
create index label_delay_due on label_delay (due_at) where due_at is not null;

-- When a window whose labels may still come is looked at next; null for at once.
alter table window_quality add column look_at timestamptz;
drop index window_quality_open;
create index window_quality_due on window_quality (model, look_at) where not settled and labels > 0;
