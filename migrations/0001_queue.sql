-- The queue: what users asked for (jobs), what workers claim (tasks), who did what when (attempts), and what came out
-- (chunk_segments, transcripts). Times are milliseconds since 1970 UTC, positions are samples at 16 kHz, JSON is text.
-- Views for users are in a file of their own: these tables may change, the views only grow.

create table jobs (
    pk                    integer primary key autoincrement,
    id                    text    not null unique check (id <> ''),
    idempotency_key       text,
    -- The process that keeps this job to itself (a command line waiting for it); null: any worker may take it.
    owner                 text,
    front_door            text    not null check (front_door in ('cli', 'http', 'runpod', 'lambda', 's3')),
    -- What was submitted, without query string or other secret.
    source                text    not null,
    -- Which version of it (size and time of a file, ETag of an object), so that a resumed job never mixes two.
    source_version        text,
    options               text    not null check (json_valid(options)),
    model                 text    not null,
    -- Given by the user, else what the first chunk was heard to be.
    language              text,
    priority              integer not null default 0 check (priority between -10 and 10),
    state                 text    not null default 'queued'
        check (state in ('queued', 'running', 'completed', 'failed', 'cancelled', 'timed_out')),
    -- Raised by an operator's retry, the only way out of a terminal state.
    generation            integer not null default 0 check (generation >= 0),
    planned               integer not null default 0 check (planned in (0, 1)),
    audio_ms              integer check (audio_ms >= 0),
    done_ms               integer not null default 0 check (done_ms >= 0),
    warnings              text    not null default '[]' check (json_valid(warnings)),
    error_code            text,
    error_message         text,
    created_at_ms         integer not null,
    started_at_ms         integer,
    finished_at_ms        integer,
    ttl_ms                integer not null check (ttl_ms > 0),
    ttl_deadline_ms       integer not null,
    execution_timeout_ms  integer not null check (execution_timeout_ms > 0),
    execution_deadline_ms integer,
    -- When a command line had written the transcript out; until then a rerun hands it out without working again.
    handed_out_at_ms      integer,
    check ((state in ('completed', 'failed', 'cancelled', 'timed_out')) = (finished_at_ms is not null)),
    check (state <> 'running' or started_at_ms is not null),
    check ((started_at_ms is null) = (execution_deadline_ms is null)),
    check (state not in ('failed', 'timed_out') or (error_code is not null and error_message is not null)),
    check (state <> 'completed' or planned = 1)
) strict;

create unique index jobs_idempotency on jobs (idempotency_key) where idempotency_key is not null;
create index jobs_by_time on jobs (created_at_ms, pk);
create index jobs_finished on jobs (finished_at_ms, pk) where finished_at_ms is not null;
-- What a rerun of the same command looks through.
create index jobs_left_behind on jobs (source)
    where front_door = 'cli' and handed_out_at_ms is null and state in ('queued', 'running', 'completed');
create index jobs_owned on jobs (owner) where owner is not null;
-- A queued job dies of old age, a running one of its time limit.
create index jobs_ttl on jobs (ttl_deadline_ms) where state = 'queued';
create index jobs_execution on jobs (execution_deadline_ms) where state = 'running';

-- `attempt` grows at every claim and is the fence: only the attempt that claimed a task may finish it. It is never a
-- reason to give up; the three counts below are, each for its own cause.
create table tasks (
    id             integer primary key autoincrement,
    job_pk         integer not null references jobs (pk) on delete cascade,
    kind           text    not null check (kind in ('prepare', 'transcribe', 'deliver')),
    pass           integer not null default 0 check (pass in (0, 1)),
    seq            integer not null default 0 check (seq >= 0),
    lane           text    not null,
    priority       integer not null check (priority between -10 and 10),
    -- Position in the lane, see the claim order in src/queue/fair.rs.
    key            integer not null,
    state          text    not null
        check (state in ('blocked', 'delayed', 'queued', 'running', 'done', 'failed', 'cancelled')),
    generation     integer not null default 0 check (generation >= 0),
    waits_for      integer references tasks (id),
    run_at_ms      integer,
    attempt        integer not null default 0 check (attempt >= 0),
    error_count    integer not null default 0 check (error_count >= 0),
    crash_count    integer not null default 0 check (crash_count >= 0),
    lost_count     integer not null default 0 check (lost_count >= 0),
    process_id     text,
    worker_id      text,
    lease_until_ms integer,
    start_sample   integer check (start_sample >= 0),
    end_sample     integer check (end_sample > start_sample),
    hard_cut       integer check (hard_cut in (0, 1)),
    finished_at_ms integer,
    unique (job_pk, kind, pass, seq),
    check ((state = 'running') = (lease_until_ms is not null)),
    check ((state = 'running') = (process_id is not null)),
    check ((state = 'running') = (worker_id is not null)),
    check ((state = 'delayed') = (run_at_ms is not null)),
    check (state <> 'blocked' or waits_for is not null),
    check ((state in ('done', 'failed', 'cancelled')) = (finished_at_ms is not null)),
    check ((kind = 'transcribe') = (end_sample is not null and start_sample is not null and hard_cut is not null))
) strict;

-- The claim is one probe of this index; delayed, blocked and finished rows are not in it, so they cost nothing.
create index tasks_queued on tasks (kind, lane, priority desc, key, id) where state = 'queued';
create index tasks_delayed on tasks (run_at_ms) where state = 'delayed';
create index tasks_leased on tasks (lease_until_ms) where state = 'running';
create index tasks_of_process on tasks (process_id) where state = 'running';
-- Not only the blocked ones: deleting a task looks for all that name it.
create index tasks_waits_for on tasks (waits_for) where waits_for is not null;
create index tasks_pending on tasks (job_pk, kind) where state in ('blocked', 'delayed', 'queued', 'running');

-- The clock of fair queueing, one per lane and priority.
create table lanes (
    kind       text    not null,
    lane       text    not null,
    priority   integer not null,
    virtual_ms integer not null,
    primary key (kind, lane, priority)
) strict, without rowid;

-- One row per claim, kept as history; `outcome` is written once.
create table attempts (
    task_id        integer not null references tasks (id) on delete cascade,
    attempt        integer not null check (attempt > 0),
    job_pk         integer not null references jobs (pk) on delete cascade,
    process_id     text    not null,
    worker_id      text    not null,
    started_at_ms  integer not null,
    finished_at_ms integer,
    outcome        text check (outcome in ('done', 'error', 'cancelled', 'released', 'lost', 'crashed')),
    error          text,
    -- Time inside the engine, measured on the worker's monotonic clock.
    engine_ms      integer check (engine_ms >= 0),
    primary key (task_id, attempt),
    check ((outcome is null) = (finished_at_ms is null))
) strict, without rowid;

create index attempts_of_job on attempts (job_pk);

create table chunk_segments (
    job_pk            integer not null references jobs (pk) on delete cascade,
    pass              integer not null,
    seq               integer not null,
    n                 integer not null,
    start_ms          integer not null check (start_ms >= 0),
    end_ms            integer not null check (end_ms >= start_ms),
    seek_ms           integer not null,
    text              text    not null,
    tokens            text    not null check (json_valid(tokens)),
    temperature       real    not null,
    avg_logprob       real    not null,
    compression_ratio real    not null,
    no_speech_prob    real    not null,
    words             text check (words is null or json_valid(words)),
    primary key (job_pk, pass, seq, n)
) strict, without rowid;

-- Assembled by whoever finishes the last chunk, in the transaction that completes the job.
create table transcripts (
    job_pk      integer primary key references jobs (pk) on delete cascade,
    language    text    not null,
    duration_ms integer not null check (duration_ms >= 0),
    text        text    not null
) strict;

create table processes (
    id              text    primary key,
    pid             integer not null,
    command         text    not null,
    version         text    not null,
    started_at_ms   integer not null,
    heartbeat_at_ms integer not null,
    ended_at_ms     integer
) strict, without rowid;

create index processes_alive on processes (id) where ended_at_ms is null;

create table worker_threads (
    process_id     text    not null references processes (id) on delete cascade,
    worker_id      text    not null,
    model          text    not null,
    model_instance integer not null,
    device         text    not null,
    state          text    not null check (state in ('loading', 'ready', 'failed', 'stopped')),
    error          text,
    chunks_done    integer not null default 0,
    audio_ms       integer not null default 0,
    engine_ms      integer not null default 0,
    primary key (process_id, worker_id)
) strict, without rowid;

-- How many jobs are in each state, so that no status question counts rows.
create table job_counts (
    state text    primary key,
    jobs  integer not null check (jobs >= 0)
) strict, without rowid;

insert into job_counts (state, jobs)
values ('queued', 0), ('running', 0), ('completed', 0), ('failed', 0), ('cancelled', 0), ('timed_out', 0);

create trigger jobs_counted_in after insert on jobs begin
    update job_counts set jobs = jobs + 1 where state = new.state;
end;

create trigger jobs_counted_over after update of state on jobs when new.state <> old.state begin
    update job_counts set jobs = jobs - 1 where state = old.state;
    update job_counts set jobs = jobs + 1 where state = new.state;
end;

create trigger jobs_counted_out after delete on jobs begin
    update job_counts set jobs = jobs - 1 where state = old.state;
end;

-- Terminal states absorb within a generation, whatever the code above them believes.
create trigger jobs_absorb before update of state on jobs
when old.state in ('completed', 'failed', 'cancelled', 'timed_out')
    and new.state <> old.state and new.generation <= old.generation
begin
    select raise(abort, 'a finished job cannot change its state');
end;

create trigger tasks_absorb before update of state on tasks
when old.state in ('done', 'failed', 'cancelled')
    and new.state <> old.state and new.generation <= old.generation
begin
    select raise(abort, 'a finished task cannot change its state');
end;

-- Only failed and timed-out jobs may be tried again; completed and cancelled ones are final.
create trigger jobs_final before update of generation on jobs
when old.state not in ('failed', 'timed_out') and new.generation <> old.generation
begin
    select raise(abort, 'only a failed or timed-out job can be tried again');
end;

-- A fence that could go back would not be one.
create trigger tasks_attempt_grows before update of attempt on tasks when new.attempt < old.attempt begin
    select raise(abort, 'the attempt of a task cannot fall');
end;

create trigger jobs_complete_with_text before update of state on jobs
when new.state = 'completed' and not exists (select 1 from transcripts where job_pk = new.pk)
begin
    select raise(abort, 'a job completes with its transcript');
end;
