-- What RunPod was told of a job beyond its end, so that a worker that starts again neither repeats nor contradicts it.
create table runpod_told (
    job_pk         integer primary key references jobs (pk) on delete cascade,
    -- The last segment that it took, by chunk and number in that.
    streamed_seq   integer,
    streamed_n     integer,
    -- The status with which it refused the output as too long; from then on something else is said.
    refused_status integer,
    -- What that is, decided once: where in S3 the output is, or an error.
    output_address text,
    error_code     text,
    error_message  text,
    check ((streamed_seq is null) = (streamed_n is null)),
    check ((error_code is null) = (error_message is null)),
    check (output_address is null or error_code is null)
) strict;
