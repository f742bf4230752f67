//! `hub.json` and `tests.json` have the fields of RunPod's publishing guide and no others, and what they set is read.

use serde_json::{Map, Value};
use whisperq::config::Config;

use super::{json, read};

const POOLS: [&str; 8] =
    ["AMPERE_16", "AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO", "AMPERE_80", "ADA_80_PRO", "HOPPER_141"];
const CATEGORIES: [&str; 5] = ["audio", "embedding", "language", "video", "image"];
const HOME: &str = "/home/someone";

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Truth,
    Object,
    List,
    /// The default of a setting.
    Any,
}
use Kind::{Any, List, Object, Text, Truth, Whole};

/// Its fields are these, the ones with `true` at least.
#[track_caller]
fn fields<'v>(value: &'v Value, allowed: &[(&str, Kind, bool)]) -> &'v Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for (name, held) in object {
        let found = allowed.iter().find(|(allowed, ..)| allowed == name);
        let (_, kind, _) = found.unwrap_or_else(|| panic!("{name} is not documented: {value}"));
        let fits = match kind {
            Text => held.as_str().is_some_and(|text| !text.is_empty()),
            Whole => held.is_u64(),
            Truth => held.is_boolean(),
            Object => held.is_object(),
            List => held.is_array(),
            Any => held.is_string() || held.is_u64() || held.is_boolean(),
        };
        assert!(fits, "{name}: {held}");
    }
    for (name, ..) in allowed.iter().filter(|(_, _, required)| *required) {
        assert!(object.contains_key(*name), "{name} is missing: {value}");
    }
    object
}

fn entries(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The engine is compiled for one CUDA, and a host must have that or a newer one.
#[track_caller]
fn assert_cuda(versions: &Value) {
    let image = read("runpod/Dockerfile");
    let built = image.lines().find_map(|line| line.strip_prefix("ARG CUDA_VERSION=")).unwrap();
    let (built, _) = built.rsplit_once('.').unwrap();
    let versions: Vec<&str> = entries(versions).iter().map(|version| version.as_str().unwrap()).collect();
    let number = |version: &str| version.parse::<f64>().unwrap();
    assert!(!versions.is_empty() && versions.iter().all(|version| number(version) >= number(built)), "{versions:?}");
}

#[test]
fn the_listing_has_the_documented_fields_and_values() {
    let hub = json(".runpod/hub.json");
    let general = [("title", Text, true), ("description", Text, true), ("type", Text, true), ("category", Text, true)];
    let general = fields(&hub, &[&general[..], &[("iconUrl", Text, false), ("config", Object, true)]].concat());
    assert_eq!(general["type"], "serverless");
    assert!(CATEGORIES.iter().any(|category| general["category"] == *category));
    let config = fields(
        &general["config"],
        &[
            ("runsOn", Text, true),
            ("containerDiskInGb", Whole, true),
            ("gpuCount", Whole, true),
            ("gpuIds", Text, true),
            ("allowedCudaVersions", List, true),
            ("env", List, false),
            ("presets", List, false),
        ],
    );
    assert_eq!(config["runsOn"], "GPU");
    let mut pools = config["gpuIds"].as_str().unwrap().split(',');
    assert!(pools.all(|pool| pool.starts_with('-') || POOLS.contains(&pool)), "{}", config["gpuIds"]);
    assert_cuda(&config["allowedCudaVersions"]);
}

#[test]
fn each_variable_of_the_listing_is_a_setting_with_its_own_default() {
    let hub = json(".runpod/hub.json");
    for variable in entries(&hub["config"]["env"]) {
        let key = fields(variable, &[("key", Text, true), ("input", Object, true)])["key"].as_str().unwrap();
        assert_setting(key);
        let input = fields(
            &variable["input"],
            &[
                ("name", Text, true),
                ("type", Text, true),
                ("description", Text, true),
                ("default", Any, false),
                ("required", Truth, false),
                ("advanced", Truth, false),
                ("options", List, false),
                ("min", Whole, false),
                ("max", Whole, false),
                ("trueValue", Text, false),
                ("falseValue", Text, false),
            ],
        );
        let default = input.get("default");
        let fits = match input["type"].as_str().unwrap() {
            "string" | "huggingface" => default.is_none_or(Value::is_string),
            "number" => default.is_some_and(Value::is_u64) && input.contains_key("min") && input.contains_key("max"),
            "boolean" => default.is_some_and(Value::is_boolean) && input["trueValue"] == "true",
            other => panic!("{key} has no documented type: {other}"),
        };
        assert!(fits, "{variable}");
        if let Some(default) = default {
            assert_eq!(with(key, default), with("UNRELATED", default), "{key}={default} is not the program's default");
        }
        for bound in ["min", "max"].iter().filter_map(|bound| input.get(*bound)) {
            with(key, bound);
        }
    }
}

#[test]
fn presets_set_what_the_listing_shows() {
    let hub = json(".runpod/hub.json");
    let keys: Vec<&Value> = entries(&hub["config"]["env"]).iter().map(|variable| &variable["key"]).collect();
    for preset in entries(&hub["config"]["presets"]) {
        for key in
            fields(preset, &[("name", Text, true), ("defaults", Object, true)])["defaults"].as_object().unwrap().keys()
        {
            assert!(keys.iter().any(|known| *known == key), "{preset}");
        }
    }
}

#[test]
fn the_tests_of_the_hub_have_the_documented_fields_and_do_the_image_s_own_test_input() {
    let tests = json(".runpod/tests.json");
    let tests = fields(&tests, &[("tests", List, true), ("config", Object, true)]);
    let input = &json("runpod/test_input.json")["input"];
    for test in entries(&tests["tests"]) {
        let test = fields(test, &[("name", Text, true), ("input", Object, true), ("timeout", Whole, false)]);
        assert_eq!(&test["input"], input);
    }
    assert!(!entries(&tests["tests"]).is_empty());
    let config = fields(
        &tests["config"],
        &[
            ("gpuTypeId", Text, true),
            ("gpuCount", Whole, true),
            ("env", List, false),
            ("allowedCudaVersions", List, false),
        ],
    );
    for variable in entries(&config["env"]) {
        let variable = fields(variable, &[("key", Text, true), ("value", Text, true)]);
        let key = variable["key"].as_str().unwrap();
        assert_setting(key);
        with(key, &variable["value"]);
    }
    assert_cuda(&config["allowedCudaVersions"]);
}

#[track_caller]
fn assert_setting(key: &str) {
    let field = format!("    {}: Option<String>,\n", key.to_lowercase());
    assert!(read("src/config/mod.rs").contains(&field), "{key} is no setting");
}

/// All settings, with this one set as RunPod sets it: as text.
#[track_caller]
fn with(key: &str, value: &Value) -> String {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let variables = [("HOME", HOME), (key, &value)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    format!("{:?}", Config::from_vars(variables.into_iter()).unwrap_or_else(|error| panic!("{error}")))
}
