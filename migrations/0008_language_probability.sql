-- How sure the engine was of the language that it heard; null where the language was given.
alter table jobs add column language_probability real check (language_probability between 0 and 1);
