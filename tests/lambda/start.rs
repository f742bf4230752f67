//! The start of an instance: what it needs, where the model comes from, and how it says that it cannot work.

use super::emulator::Function;
use crate::s3::boto::Boto;
use crate::s3::weed::Weed;
use crate::support::{MODEL, Whisperq, model};

#[test]
fn too_little_memory_is_said_with_the_numbers() {
    let failed = Function::fail(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]);
    let message = failed.init_error["errorMessage"].as_str().unwrap();
    for part in ["128 MiB", MODEL, "WORKER_COUNT=1", "(75 MiB of it the model itself)", "give the function"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!((failed.status.code(), failed.log.lines().count()), (Some(2), 1), "{}", failed.log);
}

#[test]
fn a_model_that_is_nowhere_is_said_before_the_first_invocation() {
    let failed = Function::fail(&[("MODEL_NAME", "small")]);
    assert_eq!(failed.init_error["errorType"], "whisperq.configuration");
    assert!(failed.log.contains("models pull small"), "{}", failed.log);
}

#[test]
fn a_model_comes_from_s3_once() {
    let bucket = "lambda-model";
    Boto::shared().create(bucket);
    Boto::shared().put(bucket, "models/ggml-tiny.en.bin", &model().path);
    let environment = Weed::shared().environment();
    let mut settings: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    settings.extend([
        ("S3_FORCE_PATH_STYLE", "true"),
        ("MODEL_DIR", "/nowhere"),
        ("LAMBDA_MODEL_URI", "s3://lambda-model/models/ggml-tiny.en.bin"),
    ]);
    let function = Function::start(&settings);
    assert_eq!(function.get("/system").json()["models"][0]["name"], MODEL);
    let fetched = function.whisperq.path("data/models/ggml-tiny.en.bin");
    assert_eq!(std::fs::metadata(fetched).unwrap().len(), std::fs::metadata(model().path).unwrap().len());
    settings.retain(|(name, _)| *name != "LAMBDA_MODEL_URI");
    settings.push(("LAMBDA_MODEL_URI", "s3://lambda-model/models/ggml-small.bin"));
    let failed = Function::fail(&settings);
    assert!(failed.log.contains("LAMBDA_MODEL_URI") && failed.log.contains("not"), "{}", failed.log);
}

#[test]
fn outside_of_lambda_the_command_says_how_to_try_it() {
    let output = Whisperq::new().run(&["lambda"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("cargo lambda watch"), "{said}");
}
