-- History that can be asked without counting: how every job ended, what each minute and hour brought, and the views that
-- are promised to users.

-- How a job ended, once for each generation: an operator's retry does not undo what happened before it.
create table job_endings (
    job_pk         integer not null references jobs (pk) on delete cascade,
    generation     integer not null,
    state          text    not null check (state in ('completed', 'failed', 'cancelled', 'timed_out')),
    error_code     text,
    error_message  text,
    delay_ms       integer,
    execution_ms   integer,
    finished_at_ms integer not null,
    primary key (job_pk, generation)
) strict, without rowid;

create index job_endings_by_time on job_endings (finished_at_ms);

-- What a minute or an hour brought for a model, by the time at which it ended. Minutes are removed after two days, hours
-- stay. `within_…` counts completed jobs by the time from their submit to their end, each in the first that it fits.
create table rollups (
    period_ms      integer not null check (period_ms in (60000, 3600000)),
    start_ms       integer not null check (start_ms % period_ms = 0),
    model          text    not null,
    completed      integer not null default 0,
    failed         integer not null default 0,
    cancelled      integer not null default 0,
    timed_out      integer not null default 0,
    chunks         integer not null default 0,
    audio_ms       integer not null default 0,
    engine_ms      integer not null default 0,
    within_1s      integer not null default 0,
    within_5s      integer not null default 0,
    within_15s     integer not null default 0,
    within_1min    integer not null default 0,
    within_5min    integer not null default 0,
    within_15min   integer not null default 0,
    within_1h      integer not null default 0,
    over_1h        integer not null default 0,
    primary key (period_ms, start_ms, model)
) strict, without rowid;

-- One row: what no other table can tell without a count. Before `kept_from_ms` jobs may have been removed, so that the
-- roll-ups know more than the rows; `retried` is how often an operator tried a job again.
create table totals (
    kept_from_ms integer not null,
    retried      integer not null
) strict;

insert into totals select 0, coalesce(sum(generation), 0) from jobs;

create trigger jobs_retried after update of generation on jobs when new.generation > old.generation begin
    update totals set retried = retried + 1;
end;

create trigger jobs_ended after update of state on jobs
when (new.state = 'completed' or new.state = 'failed' or new.state = 'cancelled' or new.state = 'timed_out')
    and new.state <> old.state
begin
    insert into job_endings (job_pk, generation, state, error_code, error_message, delay_ms, execution_ms, finished_at_ms)
    values (new.pk, new.generation, new.state, new.error_code, new.error_message, new.started_at_ms - new.created_at_ms,
        new.finished_at_ms - new.started_at_ms, new.finished_at_ms);
    insert into rollups (period_ms, start_ms, model, completed, failed, cancelled, timed_out,
        within_1s, within_5s, within_15s, within_1min, within_5min, within_15min, within_1h, over_1h)
    select period_ms, new.finished_at_ms - new.finished_at_ms % period_ms, new.model,
        done, new.state = 'failed', new.state = 'cancelled', new.state = 'timed_out',
        done and took <= 1000, done and took > 1000 and took <= 5000, done and took > 5000 and took <= 15000,
        done and took > 15000 and took <= 60000, done and took > 60000 and took <= 300000,
        done and took > 300000 and took <= 900000, done and took > 900000 and took <= 3600000,
        done and took > 3600000
    from (select 60000 as period_ms union all select 3600000),
        (select new.state = 'completed' as done, new.finished_at_ms - new.created_at_ms as took)
    where true
    on conflict do update set
        completed = completed + excluded.completed, failed = failed + excluded.failed,
        cancelled = cancelled + excluded.cancelled, timed_out = timed_out + excluded.timed_out,
        within_1s = within_1s + excluded.within_1s, within_5s = within_5s + excluded.within_5s,
        within_15s = within_15s + excluded.within_15s, within_1min = within_1min + excluded.within_1min,
        within_5min = within_5min + excluded.within_5min, within_15min = within_15min + excluded.within_15min,
        within_1h = within_1h + excluded.within_1h, over_1h = over_1h + excluded.over_1h;
end;

-- A chunk counts for its audio once, with the first pass; the engine's time counts for every pass.
create trigger attempts_done after update of outcome on attempts when new.outcome = 'done' and old.outcome is null begin
    insert into rollups (period_ms, start_ms, model, chunks, audio_ms, engine_ms)
    select period_ms, new.finished_at_ms - new.finished_at_ms % period_ms, j.model, 1,
        iif(t.pass = 0, (t.end_sample - t.start_sample) / 16, 0), coalesce(new.engine_ms, 0)
    from (select 60000 as period_ms union all select 3600000), tasks t, jobs j
    where t.id = new.task_id and t.kind = 'transcribe' and j.pk = new.job_pk
    on conflict do update set
        chunks = chunks + excluded.chunks, audio_ms = audio_ms + excluded.audio_ms, engine_ms = engine_ms + excluded.engine_ms;
end;

-- What happened before this file was applied.
insert into job_endings
select pk, generation, state, error_code, error_message, started_at_ms - created_at_ms, finished_at_ms - started_at_ms,
    finished_at_ms
from jobs where finished_at_ms is not null;

insert into rollups
select period_ms, e.finished_at_ms - e.finished_at_ms % period_ms, j.model,
    sum(e.state = 'completed'), sum(e.state = 'failed'), sum(e.state = 'cancelled'), sum(e.state = 'timed_out'), 0, 0, 0,
    sum(done and took <= 1000), sum(done and took > 1000 and took <= 5000), sum(done and took > 5000 and took <= 15000),
    sum(done and took > 15000 and took <= 60000), sum(done and took > 60000 and took <= 300000),
    sum(done and took > 300000 and took <= 900000), sum(done and took > 900000 and took <= 3600000),
    sum(done and took > 3600000)
from (select 60000 as period_ms union all select 3600000),
    (select *, state = 'completed' as done from job_endings) e,
    (select pk, model, created_at_ms, finished_at_ms - created_at_ms as took from jobs) j
where j.pk = e.job_pk
group by 1, 2, 3;

insert into rollups (period_ms, start_ms, model, chunks, audio_ms, engine_ms)
select period_ms, a.finished_at_ms - a.finished_at_ms % period_ms, j.model, count(*),
    sum(iif(t.pass = 0, (t.end_sample - t.start_sample) / 16, 0)), sum(coalesce(a.engine_ms, 0))
from (select 60000 as period_ms union all select 3600000), attempts a
join tasks t on t.id = a.task_id and t.kind = 'transcribe'
join jobs j on j.pk = a.job_pk
where a.outcome = 'done'
group by 1, 2, 3
on conflict do update set
    chunks = chunks + excluded.chunks, audio_ms = audio_ms + excluded.audio_ms, engine_ms = engine_ms + excluded.engine_ms;

-- The user's own words about a job, apart from its options, which may name addresses. Of any type, because a type would
-- be checked at every write.
alter table jobs add column metadata any generated always as (options -> '$.metadata') virtual;

drop view throughput;

-- One row: what the last 60 seconds brought. The plus keeps SQLite from making an index of all completed jobs for the
-- occasion (432 ms of them at a million jobs): what ended in the last minute is a range of `jobs_finished`.
create view throughput as
with clock as (select cast((julianday('now') - 2440587.5) * 86400000 as integer) as now_ms)
select 60 as window_seconds,
    count(*) as chunks,
    coalesce(sum(t.end_sample - t.start_sample), 0) / 16000.0 as audio_seconds,
    coalesce(sum(t.end_sample - t.start_sample), 0) / 16000.0 / 60 as audio_seconds_per_second,
    (select count(*) from jobs, clock where finished_at_ms > now_ms - 60000 and finished_at_ms <= now_ms and +state = 'completed') as jobs_completed
from clock
join attempts a on a.finished_at_ms > clock.now_ms - 60000 and a.finished_at_ms <= clock.now_ms
join tasks t on t.id = a.task_id and t.kind = 'transcribe' and t.pass = 0
where a.outcome = 'done';

drop view queue;

-- One row: jobs waiting for their first worker, chunks and preparations in work, and since when the oldest job waits.
create view queue as
select (select jobs from job_counts where state = 'queued') as size,
    (select count(*) from tasks where state = 'running') as processing,
    o.oldest_created_at_ms,
    max(0, cast((julianday('now') - 2440587.5) * 86400000 as integer) - o.oldest_created_at_ms) as oldest_wait_ms
from (select min(created_at_ms) as oldest_created_at_ms from jobs where state = 'queued') o;

-- One row: everything at a glance.
create view system as
select (select jobs from job_counts where state = 'queued') as jobs_queued,
    (select jobs from job_counts where state = 'running') as jobs_running,
    (select jobs from job_counts where state = 'completed') as jobs_completed,
    (select jobs from job_counts where state = 'failed') as jobs_failed,
    (select jobs from job_counts where state = 'cancelled') as jobs_cancelled,
    (select jobs from job_counts where state = 'timed_out') as jobs_timed_out,
    q.processing as tasks_running, q.oldest_wait_ms,
    (select count(*) from workers where status = 'busy') as workers_busy,
    (select count(*) from workers where status = 'ready') as workers_idle,
    t.chunks as chunks_last_minute, t.audio_seconds_per_second
from queue q, throughput t;

-- One row per job, with what it took. `source` never holds a query string or another secret.
create view job_history as
select j.id as job_id, j.state, j.front_door, j.source, j.model, j.language, j.priority, j.generation,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.created_at_ms / 1000.0, 'unixepoch') as created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.started_at_ms / 1000.0, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.finished_at_ms / 1000.0, 'unixepoch') as finished_at,
    j.created_at_ms, j.started_at_ms, j.finished_at_ms,
    j.started_at_ms - j.created_at_ms as delay_ms, j.finished_at_ms - j.started_at_ms as execution_ms,
    j.audio_ms / 1000.0 as audio_seconds,
    j.audio_ms * 1.0 / nullif(j.finished_at_ms - j.started_at_ms, 0) as speed_factor,
    (select count(*) from attempts where job_pk = j.pk) as attempts,
    j.error_code, j.error_message, j.metadata
from jobs j;

-- Everything that went wrong, also what an operator's retry has mended since.
create view failures as
select j.id as job_id, e.generation, e.state,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.finished_at_ms / 1000.0, 'unixepoch') as finished_at, e.finished_at_ms,
    e.error_code, e.error_message, j.source, j.model, j.front_door, e.delay_ms, e.execution_ms, j.state as state_now
from job_endings e
join jobs j on j.pk = e.job_pk
where e.state in ('failed', 'timed_out');

-- What is on its way to where results go, and what became of it; one row per destination of a job.
create view deliveries as
select j.id as job_id, t.seq, t.state, t.attempt as attempts, t.error_count as errors, t.run_at_ms as next_attempt_at_ms,
    t.finished_at_ms,
    (select a.error from attempts a where a.task_id = t.id and a.error is not null order by a.attempt desc limit 1) as last_error
from tasks t
join jobs j on j.pk = t.job_pk
where t.kind = 'deliver';

create view throughput_minutely as
select strftime('%Y-%m-%dT%H:%MZ', start_ms / 1000, 'unixepoch') as minute, start_ms, model, completed, failed, cancelled,
    timed_out, chunks, audio_ms / 1000.0 as audio_seconds, engine_ms / 1000.0 as engine_seconds,
    audio_ms / 60000.0 as audio_seconds_per_second
from rollups where period_ms = 60000;

create view throughput_hourly as
select strftime('%Y-%m-%dT%HZ', start_ms / 1000, 'unixepoch') as hour, start_ms, model, completed, failed, cancelled,
    timed_out, chunks, audio_ms / 1000.0 as audio_seconds, engine_ms / 1000.0 as engine_seconds,
    audio_ms / 3600000.0 as audio_seconds_per_second,
    -- The table has each job in one of these, the view in all that it was fast enough for.
    within_1s,
    within_1s + within_5s as within_5s,
    within_1s + within_5s + within_15s as within_15s,
    within_1s + within_5s + within_15s + within_1min as within_1min,
    within_1s + within_5s + within_15s + within_1min + within_5min as within_5min,
    within_1s + within_5s + within_15s + within_1min + within_5min + within_15min as within_15min,
    within_1s + within_5s + within_15s + within_1min + within_5min + within_15min + within_1h as within_1h,
    over_1h
from rollups where period_ms = 3600000;
