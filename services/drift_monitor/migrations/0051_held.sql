-- Models whose brake may have been lifted: what was held is looked at once nothing holds it, without
-- anybody who lifts a brake writing into the courses of models that others have locked.
create index course_held on course (model) where phase = 'held' and due_at is null;
