//! The command line as a user runs it: what it prints, what it refuses and how, and that a refusal
//! leaves everything as it was.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use assert_cmd::Command;
use decode_bench::case::ModelKind;
use decode_bench::model::shapes;
use decode_bench::strategy::Strategy;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{json, Value};
use tempfile::{tempdir, TempDir};

use crate::common;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(common::program());
    command.args(args);
    command
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// What a successful run printed.
fn printed(args: &[&str]) -> String {
    let output = program(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?} was refused: {said}");
    assert!(said.is_empty(), "{args:?} said {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code 2, nothing on standard output, one line on standard error that says all of `named`.
fn refused(args: &[&str], named: &[&str]) {
    let output = program(args).timeout(std::time::Duration::from_secs(60)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?} printed something");
    assert!(said.starts_with("error: ") && said.ends_with('\n'), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    for name in named {
        assert!(said.contains(name), "{args:?} should name {name}: {said}");
    }
}

/// Exit code 1, and one line on standard error that says all of `named`.
fn differs(args: &[&str], named: &[&str]) {
    let output = program(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    for name in named {
        assert!(said.contains(name), "{args:?} should name {name}: {said}");
    }
}

// ---- decode: the contract

const STRATEGIES: [(&str, &str); 2] = [
    ("transformer", "naive naive-padded concat padded chunked-1 chunked-5 chunked-64 bounded onehot"),
    ("linearized-conv", "naive naive-padded concat padded shift"),
];

/// A decode of the tiny shape; what comes after may say otherwise.
fn tiny(model: &str, strategy: &str, more: &[&str]) -> Vec<String> {
    let line = format!(
        "decode --model {model} --shape tiny --seed 5 --strategy {strategy} --backend cpu --prompt 3,1,4,1,5 --steps 12"
    );
    words(&line).iter().chain(more).map(|word| word.to_string()).collect()
}

fn decoded(args: &[String]) -> Value {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let text = printed(&args);
    assert_eq!(text.lines().count(), 1, "one JSON object on one line: {text}");
    serde_json::from_str(&text).unwrap()
}

fn tokens(json: &Value) -> Vec<u64> {
    json["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn every_strategy_and_every_prefill_generates_the_same_tokens() {
    for (model, strategies) in STRATEGIES {
        let expected = tokens(&decoded(&tiny(model, "naive", &[])));
        assert_eq!(expected.len(), 12);
        assert!(expected.iter().all(|&id| id < 97));
        for strategy in strategies.split(' ') {
            for prefill in ["batched", "token-by-token"] {
                for threads in ["1", "3"] {
                    let json = decoded(&tiny(model, strategy, &["--prefill", prefill, "--threads", threads]));
                    assert_eq!(tokens(&json), expected, "{model} {strategy} {prefill}, {threads} threads");
                    assert_eq!(json["strategy"], strategy);
                }
            }
        }
    }
}

#[test]
fn what_was_decoded_is_described() {
    let json = decoded(&tiny("transformer", "padded", &["--threads", "2", "--capacity", "40"]));
    let expected = json!({
        "prompt": [3, 1, 4, 1, 5], "model": "transformer", "shape": "tiny", "checkpoint": null, "seed": 5,
        "strategy": "padded", "backend": "cpu", "prefill": "batched", "capacity": 40, "vocabulary": 97,
        "threads": 2, "version": env!("CARGO_PKG_VERSION"),
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(json[field], *value, "{field}");
    }
    let other =
        decoded(&tiny("transformer", "padded", &[]).iter().map(|w| w.replace('5', "6")).collect::<Vec<_>>());
    assert_ne!(tokens(&json), tokens(&other), "another seed is another model");
}

/// `[steps, vocabulary]` of the one tensor `logits`.
fn read_logits(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names(), ["logits"]);
    let tensor = file.tensor("logits").unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32);
    let [_, vocab] = tensor.shape()[..] else { panic!("shape {:?}", tensor.shape()) };
    let numbers: Vec<f32> =
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    numbers.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
}

#[test]
fn each_token_is_the_argmax_of_its_logits() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("logits.safetensors");
    for (model, strategies) in STRATEGIES {
        for strategy in strategies.split(' ') {
            let json = decoded(&tiny(model, strategy, &["--logits", path.to_str().unwrap()]));
            let logits = read_logits(&path);
            assert_eq!((logits.len(), logits[0].len()), (12, 97));
            for (row, token) in logits.iter().zip(tokens(&json)) {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(row.iter().position(|&x| x == largest), Some(token as usize), "{strategy}");
            }
        }
    }
    assert_eq!(contents(folder.path()).len(), 1, "nothing else is left there");
}

#[test]
fn weights_written_and_read_again_decode_the_same() {
    for (model, _) in STRATEGIES {
        let folder = tempdir().unwrap();
        let weights = folder.path().join("new/weights");
        let [first, second] = ["1", "2"].map(|name| folder.path().join(name));
        let more = ["--weights-out", weights.to_str().unwrap(), "--logits", first.to_str().unwrap()];
        let seeded = decoded(&tiny(model, "concat", &more));
        let line = format!("decode --model {model} --strategy concat --prompt 3,1,4,1,5 --steps 12");
        let mut args: Vec<String> = words(&line).iter().map(|word| word.to_string()).collect();
        args.extend(["--checkpoint".into(), weights.display().to_string()]);
        let read = decoded(&[args.clone(), vec!["--logits".into(), second.display().to_string()]].concat());
        assert_eq!(tokens(&read), tokens(&seeded));
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap(), "{model}: the logits, bit for bit");
        assert_eq!(read["seed"], Value::Null);

        let again = folder.path().join("again");
        decoded(&[args, vec!["--weights-out".into(), again.display().to_string()]].concat());
        assert_eq!(contents(&again), contents(&weights), "a checkpoint read and written is the same");
    }
}

/// Every file below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(
                contents(&path)
                    .into_iter()
                    .map(|(name, bytes)| (path.file_name().map(PathBuf::from).unwrap().join(name), bytes)),
            );
        } else {
            files.insert(path.file_name().unwrap().into(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_decode_may_fill_the_capacity_and_not_exceed_it() {
    let fits = "decode --model transformer --shape tiny --strategy padded --prompt 1,2,3,4 --steps 60";
    assert_eq!(tokens(&decoded(&words(fits).iter().map(|w| w.to_string()).collect::<Vec<_>>())).len(), 60);
    refused(&words(&fits.replace("60", "61")), &["4 tokens", "61", "65", "64"]);
    refused(&words(&format!("{fits} --capacity 63")), &["4 tokens", "60", "64", "63"]);
    refused(&words(&format!("{fits} --capacity 65")), &["--capacity 65", "64"]);
    let conv = "decode --model linearized-conv --shape tiny --strategy padded --prompt 1,2 --steps 5";
    printed(&words(conv));
    refused(&words(&format!("{conv} --capacity 6")), &["2 tokens", "5", "7", "6"]);
}

// ---- step-time

#[test]
fn steps_are_timed_in_as_many_turns_as_are_asked_for() {
    let args = words("step-time --shape tiny --strategy concat --position 4 --threads 1 --samples 2");
    let asked = |args: &[&str], lines: &str| program(args).write_stdin(lines).output().unwrap();
    let counts = |output: &[u8]| -> Vec<usize> {
        let steps =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["step_ns"].as_array().unwrap().len();
        String::from_utf8_lossy(output).lines().map(steps).collect()
    };
    let in_turn = [args.clone(), vec!["--turns"]].concat();
    assert_eq!(counts(&asked(&in_turn, "3\n1\n").stdout), [2, 3, 1]);
    assert_eq!(counts(&asked(&args, "3\n1\n").stdout), [2], "nobody asked for turns");
    let wrong = asked(&in_turn, "1\nmany\n1\n");
    assert_eq!((wrong.status.code(), counts(&wrong.stdout)), (Some(2), vec![2, 1]));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`many` is no number of samples"));
}

// ---- decode: arguments that are wrong

#[test]
fn names_that_do_not_exist_are_answered_with_the_nearest() {
    let good =
        "decode --model transformer --shape tiny --strategy padded --backend cpu --prompt 1,2 --steps 2";
    for (right, wrong, near) in [
        ("transformer", "transfomer", "`transformer`"),
        ("tiny", "tinny", "`tiny`"),
        ("tiny", "large", "`transformer-gpt2`"),
        ("padded", "paded", "`padded`"),
        ("padded", "chunked-0", "`chunked-64`"),
        ("cpu", "gpu", "`cpu`"),
    ] {
        refused(&words(&good.replace(right, wrong)), &["unknown", wrong, near]);
    }
    refused(&words("lst"), &["lst", "list"]);
    refused(&words(&good.replace("--steps", "--stepps")), &["--stepps", "--steps"]);
    refused(&["list", "--filter", "toy/paded"], &["toy/paded", "toy/padded"]);
    refused(&["list", "--filter", "("], &["`(`"]);
}

#[test]
fn numbers_that_make_no_sense_are_named() {
    let with = |flag: &str, value: &str| {
        let mut args = words("decode --model transformer --shape tiny --strategy padded").clone();
        let given = [("--prompt", "1,2"), ("--steps", "2"), (flag, value)];
        let given: BTreeMap<&str, &str> = given.into_iter().collect();
        args.extend(given.into_iter().flat_map(|(flag, value)| [flag, value]));
        args.into_iter().map(String::from).collect::<Vec<_>>()
    };
    for (flag, value, named) in [
        ("--prompt", "", "empty"),
        ("--prompt", " ", "empty"),
        ("--prompt", "1,,2", "``"),
        ("--prompt", "1;2", "`1;2`"),
        ("--prompt", "1,-2", "`-2`"),
        ("--prompt", "-1", "`-1`"),
        ("--prompt", "1.5", "`1.5`"),
        ("--prompt", "99999999999999999999", "`99999999999999999999`"),
        ("--prompt", "1,97", "token 97 is outside the vocabulary of 97"),
        ("--prompt", "4294967295", "token 4294967295"),
        ("--steps", "0", "--steps"),
        ("--steps", "-1", "--steps"),
        ("--steps", "many", "--steps"),
        ("--steps", "18446744073709551615", "18446744073709551615"),
        ("--steps", "99999999999999999999", "99999999999999999999"),
        ("--threads", "0", "--threads"),
        ("--threads", "1000000000", "--threads"),
        ("--capacity", "0", "--capacity"),
        ("--capacity", "18446744073709551615", "--capacity"),
        ("--seed", "x", "--seed"),
        ("--prefill", "none", "--prefill"),
        ("--strategy", "chunked-1000000000000", "chunked-1000000000000"),
    ] {
        let mut args = with(flag, value);
        if flag == "--strategy" {
            args.retain(|word| word != "padded");
            let first = args.iter().position(|word| word == "--strategy").unwrap();
            args.remove(first);
        }
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[named]);
    }
    let conv = "decode --model linearized-conv --shape tiny --strategy shift --prompt 1";
    refused(&words(&format!("{conv} --steps 1000000000000")), &["1000000000000", "1048576"]);
    refused(&words(&format!("{conv} --steps 2 --capacity 1000000000000")), &["1000000000000"]);
}

#[test]
fn strategies_that_do_not_apply_are_named_with_those_that_do() {
    for (model, strategy) in [
        ("transformer", "shift"),
        ("linearized-conv", "bounded"),
        ("linearized-conv", "onehot"),
        ("linearized-conv", "chunked-8"),
    ] {
        let args = tiny(model, strategy, &[]);
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[strategy, model, "concat"]);
    }
}

#[test]
fn lists_of_strategies_are_checked_before_anything_is_made() {
    let compile = |list, tokens| ["compile", "--arch", "sm_90", "--strategy", list, "--tokens", tokens];
    refused(&compile("concat,paded", "8"), &["unknown strategy `paded`", "`padded`"]);
    refused(&compile("concat,", "8"), &["unknown strategy ``"]);
    refused(&compile("concat,padded,concat", "8"), &["--strategy names `concat` twice"]);
    refused(&compile("concat,shift", "8"), &["`shift` does not apply to the transformer model"]);
    refused(&compile("chunked-2000", "8"), &["a chunk of 2000 positions, and the capacity is 512"]);
    refused(&compile("padded", "0"), &["--tokens 0: transformer-toy decodes 1 to 512"]);
    refused(&compile("padded", "513"), &["--tokens 513: transformer-toy decodes 1 to 512"]);
    let conv = ["--model", "linearized-conv"];
    refused(&[compile("chunked-8", "8").as_slice(), &conv].concat(), &["does not apply", "concat, padded"]);
    refused(&[compile("padded", "8").as_slice(), &["--shape", "large"]].concat(), &["transformer-large"]);
    let trace = ["trace", "--filter", "transformer-tiny/padded/cpu/b1", "--tokens", "8", "--strategy"];
    refused(&[trace.as_slice(), &["shift"]].concat(), &["`shift` does not apply"]);
    refused(&[trace.as_slice(), &["concat,concat"]].concat(), &["twice"]);
}

#[test]
fn weights_come_from_one_place() {
    let rest = "--strategy padded --prompt 1 --steps 1";
    refused(&words(&format!("decode --model transformer {rest}")), &["--checkpoint", "--shape"]);
    refused(
        &words(&format!("decode --model transformer --shape tiny --checkpoint x {rest}")),
        &["--checkpoint"],
    );
    refused(&words(&format!("decode --model transformer --seed 1 --checkpoint x {rest}")), &["--seed"]);
    refused(&words(&format!("decode --model transformer --checkpoint /no/such {rest}")), &["/no/such"]);
    refused(&words("decode --shape tiny"), &["--model", "--strategy", "--prompt", "--steps"]);
    refused(&[], &["subcommand", "decode"]);
}

// ---- decode: samplers, beams, ensembles, text

/// Golden weights: their logits are spread widely, those of seeded tiny models are nearly all the same.
fn golden(strategy: &str, more: &str) -> Vec<String> {
    let folder = common::root().join("tests/golden/gpt2");
    let line = format!("decode --model transformer --strategy {strategy} {more} --checkpoint");
    words(&line).into_iter().map(String::from).chain([folder.display().to_string()]).collect()
}

fn golden_refused(more: &str, named: &[&str]) {
    let args = golden("padded", more);
    refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), named);
}

fn tokenizer() -> PathBuf {
    common::root().join("tests/text/tokenizer.json")
}

#[test]
fn several_prompts_and_beams_print_a_list_of_hypotheses_for_each_prompt() {
    let [one, other] = ["1,2,3", "9,8,7"]
        .map(|prompt| tokens(&decoded(&golden("padded", &format!("--steps 6 --prompt {prompt}")))));
    for strategy in ["naive", "concat", "padded", "bounded", "chunked-4"] {
        let json = decoded(&golden(strategy, "--steps 6 --prompt 1,2,3 --prompt 9,8,7"));
        assert_eq!(json["prompts"], json!([[1, 2, 3], [9, 8, 7]]));
        assert_eq!(tokens(&json["hypotheses"][0][0]), one);
        assert_eq!(tokens(&json["hypotheses"][1][0]), other);
        assert_eq!((&json["tokens"], &json["sampler"]), (&Value::Null, &Value::Null));

        let json =
            decoded(&golden(strategy, "--max-len 6 --prompt 1,2,3 --beam 3 --beam-rule flax --eos 48"));
        let [found] = &json["hypotheses"].as_array().unwrap()[..] else { panic!("{json}") };
        let score = |i: usize| found[i]["score"].as_f64().unwrap();
        assert!((1..3).all(|i| score(i - 1) >= score(i)), "{json}");
        for hypothesis in found.as_array().unwrap() {
            let (tokens, log_p) = (tokens(hypothesis), hypothesis["log_probability"].as_f64().unwrap());
            assert_eq!(hypothesis["ended"], *tokens.last().unwrap() == 48);
            let penalty = ((5.0 + tokens.len() as f64) / 6.0).powf(0.6);
            assert!((hypothesis["score"].as_f64().unwrap() - log_p / penalty).abs() < 1e-12, "{hypothesis}");
        }
        assert_eq!(json["beam"], json!({"width": 3, "length_penalty": 0.6, "rule": "flax"}));
    }
}

#[test]
fn samplers_limits_and_ensembles_do_as_they_are_told() {
    let plain = decoded(&golden("concat", "--prompt 1,2,3 --steps 6"));
    let one =
        decoded(&golden("concat", "--prompt 1,2,3 --steps 6 --sampler top-k --top-k 1 --temperature 9"));
    assert_eq!(tokens(&one), tokens(&plain), "the likeliest one is greedy");
    let draw = |seed| format!("--prompt 1,2,3 --steps 12 --sampler temperature --sampling-seed {seed}");
    let [first, again, other] = [("padded", 1), ("naive", 1), ("padded", 2)]
        .map(|(s, seed)| tokens(&decoded(&golden(s, &draw(seed)))));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let end = tokens(&plain)[0];
    let ended = decoded(&golden("padded", &format!("--prompt 1,2,3 --max-len 6 --eos {end}")));
    assert_eq!(tokens(&ended), [end], "a decode stops when it has ended");
    let forced =
        golden("padded", &format!("--prompt 1,2,3 --max-len 6 --eos {end} --min-len 4 --prefix 5,6"));
    let forced = tokens(&decoded(&forced));
    assert_eq!(forced[..2], [5, 6]);
    assert!(!forced[..4].contains(&end), "{forced:?}");
    let folder = common::root().join("tests/golden/gpt2").display().to_string();
    let twice = decoded(&golden("concat", &format!("--prompt 1,2,3 --steps 6 --ensemble {folder},{folder}")));
    assert_eq!(tokens(&twice), tokens(&plain));
    assert_eq!(twice["ensemble"], json!([folder, folder]));
}

#[test]
fn text_goes_in_and_comes_out() {
    let mut args = golden("padded", &format!("--steps 5 --tokenizer {}", tokenizer().display()));
    args.extend(["--text", "the cat sat"].map(String::from));
    let json = decoded(&args);
    assert_eq!(json["prompt"], json!([30, 40, 42]));
    assert!(json["text"].is_string());
    let ids = decoded(&golden(
        "padded",
        &format!("--steps 5 --tokenizer {} --prompt 30,40,42 --beam 2", tokenizer().display()),
    ));
    assert!(ids["hypotheses"][0][1]["text"].is_string());
    golden_refused("--steps 5 --text the", &["--tokenizer", "tokenizer.json"]);
    golden_refused("--steps 5 --prompt 1 --tokenizer none.json", &["none.json"]);
    golden_refused("--steps 5 --prompt 1 --tokenizer Cargo.toml", &["Cargo.toml"]);
    golden_refused(
        &format!("--steps 5 --tokenizer {} --text the --prompt 1", tokenizer().display()),
        &["--text", "--prompt"],
    );
    // the checkpoint's own is taken when there is one
    let folder = tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        let from = common::root().join("tests/golden/gpt2").join(file);
        fs::copy(from, folder.path().join(file)).unwrap();
    }
    fs::copy(tokenizer(), folder.path().join("tokenizer.json")).unwrap();
    let path = folder.path().to_str().unwrap();
    let line =
        format!("decode --model transformer --strategy padded --steps 5 --text the --checkpoint {path}");
    assert_eq!(
        decoded(&words(&line).iter().map(|w| w.to_string()).collect::<Vec<_>>())["prompt"],
        json!([30])
    );
}

#[test]
fn choices_that_make_no_sense_are_refused() {
    for (more, named) in [
        ("--steps 5", &["--prompt", "--text"][..]),
        ("--steps 5 --prompt 1 --prompt 1,61", &["token 61"]),
        ("--steps 30 --prompt 1 --prompt 1,2,3", &["3 tokens", "30", "33", "32"]),
        ("--steps 5 --prompt 1,2 --prompt 1 --prefill token-by-token", &["token-by-token", "one length"]),
        ("--steps 5 --prompt 1 --eos 61", &["end token 61", "61"]),
        ("--steps 5 --prompt 1 --eos -1", &["--eos"]),
        ("--steps 5 --prompt 1 --eos 3 --min-len 6", &["6", "at most 5"]),
        ("--steps 5 --prompt 1 --min-len 3", &["--eos"]),
        ("--steps 5 --prompt 1 --prefix 1,2,3,4,5,6", &["prefix of 6", "at most 5"]),
        ("--steps 5 --prompt 1 --prefix 61", &["token 61 of the prefix"]),
        ("--steps 5 --prompt 1 --prefix 2,3 --eos 3", &["prefix", "end token 3"]),
        ("--steps 5 --prompt 1 --beam 0", &["--beam"]),
        ("--steps 5 --prompt 1 --beam 62", &["beam of 62", "vocabulary of 61"]),
        ("--steps 5 --prompt 1 --beam 2 --sampler greedy", &["--beam", "--sampler"]),
        ("--steps 5 --prompt 1 --beam 2 --temperature 1", &["--beam", "--temperature"]),
        ("--steps 5 --prompt 1 --beam 2 --length-penalty nan", &["length penalty of NaN"]),
        ("--steps 5 --prompt 1 --beam 2 --length-penalty -1e300", &["length penalty of -1", "nearer to 0"]),
        ("--steps 5 --prompt 1 --beam 2 --length-penalty 1e300", &["length penalty of 1", "nearer to 0"]),
        ("--steps 5 --prompt @", &["--prompt", "name of a file"]),
        ("--steps 5 --prompt @none.ids", &["none.ids"]),
        ("--steps 5 --prompt @tests", &["tests", "directory"]),
        ("--steps 5 --prompt-file /dev/zero", &["/dev/zero", "no regular file"]),
        ("--steps 5 --prompt @Cargo.toml", &["Cargo.toml: line 1", "no token id"]),
        ("--steps 5 --prompt - --prompt -", &["standard input", "once"]),
        ("--steps 5 --prompt 1 --length-penalty 1", &["--beam"]),
        ("--steps 5 --prompt 1 --beam-rule flax", &["--beam"]),
        ("--steps 5 --prompt 1 --temperature 2", &["--temperature", "--sampler greedy", "`top-p`"]),
        ("--steps 5 --prompt 1 --sampler top-k", &["--sampler top-k needs --top-k"]),
        ("--steps 5 --prompt 1 --sampler top-p", &["--sampler top-p needs --top-p"]),
        ("--steps 5 --prompt 1 --sampler top-p --top-p 0.5 --top-k 4", &["--top-k", "--sampler top-p"]),
        ("--steps 5 --prompt 1 --sampler top-k --top-k 0", &["likeliest 0"]),
        ("--steps 5 --prompt 1 --sampler top-p --top-p 0", &["probability 0"]),
        ("--steps 5 --prompt 1 --sampler top-p --top-p 1.01", &["probability 1.01"]),
        ("--steps 5 --prompt 1 --sampler temperature --temperature 0", &["temperature of 0"]),
        ("--steps 5 --prompt 1 --sampler temperature --temperature -1", &["temperature of -1"]),
        ("--steps 5 --prompt 1 --sampler best", &["--sampler", "greedy", "top-p"]),
        ("--steps 5 --prompt 1 --logits x --beam 2", &["--logits", "one --prompt"]),
        ("--steps 5 --prompt 1 --logits x --prompt 2", &["--logits", "one --prompt"]),
        ("--steps 5 --prompt 1 --logits x --eos 3", &["--logits", "--eos"]),
        ("--steps 5 --prompt 1 --eos 3,61", &["end token 61"]),
        ("--steps 5 --prompt 1 --ensemble /no/such", &["/no/such"]),
        ("--steps 5 --prompt 1 --ensemble tests/golden/gpt2_tiny_odd", &["gpt2_tiny_odd", "13 tokens", "61"]),
        ("--steps 5 --prompt 1 --ensemble x --weights-out y", &["--ensemble", "--weights-out"]),
    ] {
        golden_refused(more, named);
    }
}

// ---- decode: what a checkpoint asks for

/// A checkpoint of `tests/golden` beside which stands a generation_config.json.
fn asking(model: &str, asks: &Value) -> TempDir {
    let folder = tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        let from = common::root().join("tests/golden").join(model).join(file);
        fs::copy(from, folder.path().join(file)).unwrap();
    }
    fs::write(folder.path().join("generation_config.json"), asks.to_string()).unwrap();
    folder
}

/// The JSON of a successful decode of that checkpoint, and what it said on standard error.
fn decoded_asking(folder: &Path, kind: &str, more: &[&str]) -> (Value, String) {
    let folder = folder.to_str().unwrap();
    let line = format!("decode --model {kind} --strategy padded --threads 1 --checkpoint {folder}");
    let output = program(&[&words(&line), more].concat()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{more:?}: {said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

/// Every case of `generate.json`; every second asks in config.json, where old checkpoints have it.
#[test]
fn what_a_checkpoint_asks_for_is_done_as_transformers_does_it() {
    let cases = fs::read(common::root().join("tests/golden/generate.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    for (number, case) in cases.iter().enumerate() {
        let (model, asks) = (case["model"].as_str().unwrap(), &case["generation_config"]);
        let folder = asking(model, asks);
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["eos_token_id"] = Value::Null; // Marian's own
        if number % 2 == 1 {
            config.as_object_mut().unwrap().extend(asks.as_object().unwrap().clone());
            fs::remove_file(folder.path().join("generation_config.json")).unwrap();
        }
        fs::write(path, config.to_string()).unwrap();
        let kind = match model {
            "gpt2" => "transformer",
            "marian" => "encoder-decoder",
            other => other,
        };
        let start = if case["source"].is_null() { "prompt" } else { "source" };
        let ids: Vec<String> = case[start].as_array().unwrap().iter().map(Value::to_string).collect();
        let (flag, ids) = (format!("--{start}"), ids.join(","));
        let (steps, beams) = (case["max_new_tokens"].to_string(), case["num_beams"].to_string());
        let mut more = vec!["--steps", &steps, &flag, &ids];
        let ways: [&[&str]; 2] = match beams.as_str() {
            "1" => [&[], &["--sampler", "top-k", "--top-k", "1", "--temperature", "0.7"]],
            _ => [&["--beam", &beams], &["--beam", &beams, "--strategy", "concat"]],
        };
        for way in ways {
            more.truncate(4);
            more.extend(way.iter().filter(|word| !["--strategy", "concat"].contains(word)));
            let (json, said) = decoded_asking(folder.path(), kind, &more);
            let what = format!("case {number}, {way:?}: {case}");
            assert_eq!(said, "", "{what}");
            let found = match beams.as_str() {
                "1" => json!([json["tokens"]]),
                _ => json["hypotheses"][0].as_array().unwrap().iter().map(|h| h["tokens"].clone()).collect(),
            };
            assert_eq!(found, case["sequences"], "{what}");
            for (rank, score) in case["scores"].as_array().into_iter().flatten().enumerate() {
                let found = json["hypotheses"][0][rank]["score"].as_f64().unwrap();
                assert!((found - score.as_f64().unwrap()).abs() < 2e-5, "{what}: {found}");
            }
        }
    }
}

#[test]
fn what_became_of_a_checkpoints_wishes_is_printed() {
    let asks = json!({
        "eos_token_id": [48, 3], "repetition_penalty": 1.3, "do_sample": true, "temperature": 0.6, "max_length": 20,
        "num_beams": 1, "top_p": 1.0, "pad_token_id": 0, "use_cache": true, "forced_bos_token_id": null,
    });
    let folder = asking("gpt2", &asks);
    let decoded = |more: &str| decoded_asking(folder.path(), "transformer", &words(more));
    let (json, said) = decoded("--steps 5 --prompt 1,2,3");
    let of = &json["generation_config"];
    assert!(of["file"].as_str().unwrap().ends_with("generation_config.json"));
    assert_eq!(of["followed"], json!({"eos_token_id": [48, 3], "repetition_penalty": 1.3}));
    assert_eq!(of["overridden"], json!({"max_length": 20}));
    assert_eq!(of["not_followed"], json!({"do_sample": true, "temperature": 0.6}));
    assert_eq!(json["eos"], json!([48, 3]));
    assert!(said.starts_with("note: ") && said.contains("do_sample = true, temperature = 0.6"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    let (json, said) = decoded("--steps 5 --prompt 1,2,3 --eos 7 --sampler temperature --temperature 0.6");
    let of = &json["generation_config"];
    assert_eq!(of["followed"], json!({"repetition_penalty": 1.3, "do_sample": true, "temperature": 0.6}));
    assert_eq!(of["overridden"], json!({"eos_token_id": [48, 3], "max_length": 20}));
    assert_eq!((&of["not_followed"], said.as_str()), (&Value::Null, ""));

    let (json, said) = decoded("--steps 5 --prompt 1,2,3 --ignore-generation-config");
    assert_eq!((&json["generation_config"], &json["eos"]), (&Value::Null, &Value::Null));
    assert_eq!(said, "");
    let plain = tokens(&self::decoded(&golden("padded", "--steps 5 --prompt 1,2,3")));
    assert_eq!(tokens(&json), plain);
}

#[test]
fn what_cannot_be_followed_is_refused_or_named() {
    for (asks, named) in [
        (json!({"guidance_scale": 1.5}), "guidance_scale = 1.5 is not implemented"),
        (json!({"stop_strings": ["."]}), "stop_strings"),
        (json!({"watermarking_config": {}}), "watermarking_config = {} is not implemented"),
        (json!({"sequence_bias": [[[1], -1.0]]}), "sequence_bias"),
        (json!({"encoder_no_repeat_ngram_size": 3}), "encoder_no_repeat_ngram_size"),
        (json!({"exponential_decay_length_penalty": [5, 1.1]}), "exponential_decay_length_penalty"),
        (json!({"eos_token_id": "end"}), "eos_token_id"),
        (json!({"eos_token_id": -1}), "eos_token_id = -1"),
        (json!({"bad_words_ids": [1]}), "bad_words_ids"),
        (json!({"bad_words_ids": [[]]}), "bad_words_ids"),
        (json!({"min_length": 1.5}), "min_length = 1.5"),
        (json!({"early_stopping": "always"}), "early_stopping"),
        (json!({"repetition_penalty": 0.0}), "repetition penalty of 0"),
        (json!({"forced_eos_token_id": 61}), "token 61"),
        (json!({"suppress_tokens": (0..61).collect::<Vec<_>>()}), "none is left to choose"),
        (json!([1]), "generation_config.json"),
    ] {
        let folder = asking("gpt2", &asks);
        let path = folder.path().to_str().unwrap();
        let line =
            format!("decode --model transformer --strategy padded --prompt 1 --steps 3 --checkpoint {path}");
        refused(&words(&line), &[named]);
    }
    #[cfg(unix)]
    {
        let folder = asking("gpt2", &json!({}));
        let file = folder.path().join("generation_config.json");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        let path = folder.path().to_str().unwrap();
        let line =
            format!("decode --model transformer --strategy padded --prompt 1 --steps 3 --checkpoint {path}");
        refused(&words(&line), &["generation_config.json"]);
    }
    // said and without effect
    for (asks, named) in [
        (json!({"max_window_size": 6144}), "keys that are not known here have no effect: `max_window_size`"),
        (json!({"eos_token_id": [3, 50256]}), "eos_token_id 50256 is outside the vocabulary of 61"),
        (json!({"num_beams": 4, "length_penalty": 2.0}), "num_beams = 4"),
        (json!({"do_sample": true, "top_k": 50}), "do_sample = true, top_k = 50"),
    ] {
        let folder = asking("gpt2", &asks);
        let (_, said) = decoded_asking(folder.path(), "transformer", &words("--steps 3 --prompt 1"));
        assert!(said.contains(named) && said.lines().count() == 1, "{asks}: {said}");
    }
    let folder = asking("marian", &json!({"decoder_start_token_id": 40}));
    let (json, said) = decoded_asking(folder.path(), "encoder-decoder", &words("--steps 3 --source 5,9"));
    assert!(said.contains("config.json, of which these have no effect: `eos_token_id`"), "{said}");
    assert_eq!((&json["eos"], &json["prompt"]), (&Value::Null, &json!([40])));
    // says nothing
    let nothing = json!({
        "_from_model_config": true, "transformers_version": "4.40", "temperature": 0.6, "top_p": 0.9, "num_beams": 1,
        "do_sample": false, "length_penalty": 2.0, "early_stopping": false, "diversity_penalty": 0.0,
        "encoder_repetition_penalty": 1.0, "suppress_tokens": [], "guidance_scale": null, "output_scores": true,
    });
    let folder = asking("gpt2", &nothing);
    assert_eq!(decoded_asking(folder.path(), "transformer", &words("--steps 3 --prompt 1")).1, "");
}

// ---- decode: prompts from elsewhere, and what is said of texts

#[test]
fn prompts_come_from_arguments_files_and_standard_input() {
    let folder = tempdir().unwrap();
    let at = |name: &str, content: &str| {
        fs::write(folder.path().join(name), content).unwrap();
        folder.path().join(name).display().to_string()
    };
    let ids = at("ids", "\u{feff}7, 3\r\n9\n");
    let want = decoded(&golden("padded", "--steps 5 --prompt 7,3,9"));
    for more in [format!("--prompt @{ids}"), format!("--prompt-file {ids}")] {
        assert_eq!(decoded(&golden("padded", &format!("--steps 5 {more}"))), want);
    }
    let piped = |more: &str, input: &str| -> Value {
        let args = golden("padded", &format!("--steps 5 {more}"));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = program(&args).write_stdin(input).output().unwrap();
        assert!(output.status.success(), "{more}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(piped("--prompt -", "7 3 9\n"), want);
    let two = piped(&format!("--prompt - --prompt-file {ids}"), "1");
    assert_eq!(two["prompts"], json!([[1], [7, 3, 9]]));
    let tokenizer = format!("--tokenizer {}", tokenizer().display());
    let text = at("text", "the cat sat\n");
    assert_eq!(piped(&format!("{tokenizer} --text @{text}"), "")["prompt"], json!([30, 40, 42]));
    assert_eq!(piped(&format!("{tokenizer} --text -"), "the cat sat\n")["prompt"], json!([30, 40, 42]));
    for (more, input, named) in [
        ("--prompt -", "1 2\n3 x", "standard input: line 2: `x` is no token id"),
        ("--prompt -", " \n", "standard input: no token ids"),
        ("--prompt -", "61", "token 61"),
    ] {
        let args = golden("padded", &format!("--steps 5 {more}"));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = program(&args).write_stdin(input).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains(named) && said.lines().count() == 1, "{said}");
    }
    fs::write(folder.path().join("latin"), b"caf\xe9").unwrap();
    let latin = folder.path().join("latin").display().to_string();
    golden_refused(
        &format!("--steps 5 {tokenizer} --text @{latin}"),
        &["latin", "is not UTF-8 text", "byte 3"],
    );
}

/// A tokenizer made of the tests' own by `change`.
fn changed_tokenizer(folder: &TempDir, change: impl FnOnce(&mut Value)) -> String {
    let mut json: Value = serde_json::from_slice(&fs::read(tokenizer()).unwrap()).unwrap();
    change(&mut json);
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    path.display().to_string()
}

/// The JSON, and what was said on standard error.
fn of_text(tokenizer: &str, text: &str) -> (Value, String) {
    let mut args = golden("padded", &format!("--steps 2 --tokenizer {tokenizer} --text"));
    args.insert(args.len() - 2, text.into());
    let output = program(&args.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}: {said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn what_a_tokenizer_doubles_or_loses_is_said() {
    let folder = tempdir().unwrap();
    let end = json!({"SpecialToken": {"id": "<end>", "type_id": 0}});
    let sequence = json!({"Sequence": {"id": "A", "type_id": 0}});
    let around = changed_tokenizer(&folder, |json| {
        json["post_processor"] = json!({
            "type": "TemplateProcessing", "single": [end, sequence, end], "pair": [],
            "special_tokens": {"<end>": {"id": "<end>", "ids": [0], "tokens": ["<end>"]}}});
    });
    let (json, said) = of_text(&around, "the cat");
    assert_eq!((&json["prompt"], said.as_str()), (&json!([0, 30, 40, 0]), ""));
    let (json, said) = of_text(&around, "<end>the cat");
    assert_eq!(json["prompt"], json!([0, 0, 30, 40, 0]));
    assert!(said.starts_with("note: the text begins with `<end>`") && said.contains("twice"), "{said}");
    let (_, said) = of_text(&around, "the cat<end>");
    assert!(said.starts_with("note: the text ends with `<end>`"), "{said}");
    assert_eq!(of_text(&around, "the <end> cat").1, "");

    let (json, said) = of_text(tokenizer().to_str().unwrap(), "the Cat");
    assert_eq!(json["prompt"], json!([30, 27, 38]));
    assert!(said.starts_with("note: ") && said.contains("1 of the text's 6 letters"), "{said}");
    let unknown = changed_tokenizer(&folder, |json| json["model"]["unk_token"] = json!("<end>"));
    let (json, said) = of_text(&unknown, "the Cat");
    assert_eq!(json["prompt"], json!([30, 27, 0, 38]));
    assert!(said.contains("1 of the text's 6 letters"), "{said}");
    assert_eq!(of_text(&unknown, "the <end>").1, "", "by its own name it is no loss");
    let small = changed_tokenizer(&folder, |json| json["normalizer"] = json!({"type": "Lowercase"}));
    assert_eq!(of_text(&small, "the Cat").1, "", "a normaliser explains it");
}

#[test]
fn what_is_generated_is_read_with_its_prompt() {
    let (folder, at) = (tempdir().unwrap(), tokenizer());
    // as sentencepiece models write words: a space at the front of a text is none of it
    let words = changed_tokenizer(&folder, |json| {
        *json = serde_json::from_str(&json.to_string().replace('Ġ', "▁")).unwrap();
        for part in ["pre_tokenizer", "decoder"] {
            json[part] =
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
        }
    });
    for tokenizer in [at.to_str().unwrap(), &words] {
        let text = |more: &str| {
            let line = format!("--tokenizer {tokenizer} --steps 3 --ignore-generation-config {more}");
            decoded(&golden("padded", &line))
        };
        let alone = text("--prompt 30,40 --prefix 42,49,43");
        assert_eq!(alone["text"], json!(" sat on the"), "{tokenizer}");
        let both = text("--prompt 30,40 --prompt 49 --prefix 43,48,28");
        assert_eq!(both["hypotheses"][1][0]["text"], json!(" the mat."), "{tokenizer}");
    }
}

// ---- outputs that cannot be written

fn decode_to(more: &[&str], named: &[&str]) {
    let args = tiny("transformer", "padded", more);
    refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), named);
}

#[test]
fn an_output_that_cannot_be_is_refused_and_no_other_is_written() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("file"), "precious").unwrap();
    fs::create_dir_all(at("weights/config.json")).unwrap();
    let before = contents(folder.path());
    decode_to(&["--logits", &at("none/logits")], &[&at("none")]);
    decode_to(&["--logits", &at("file/logits")], &[&at("file")]);
    decode_to(&["--logits", &at("")], &["directory"]);
    decode_to(&["--logits", &at("new"), "--weights-out", &at("file")], &[&at("file"), "no directory"]);
    decode_to(&["--logits", &at("new"), "--weights-out", &at("file/deep/er")], &[&at("file")]);
    decode_to(&["--logits", &at("new"), "--weights-out", &at("weights")], &[&at("weights/config.json")]);
    decode_to(
        &["--logits", &at("out/model.safetensors"), "--weights-out", &at("out")],
        &["--logits would replace"],
    );
    decode_to(&["--logits", &at("new"), "--prompt", "1"], &["--prompt"]);
    decode_to(&["--logits", "", "--weights-out", &at("new")], &["--logits"]);
    assert_eq!(contents(folder.path()), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_checkpoint_is_not_written_over_itself() {
    let folder = tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    decoded(&tiny("transformer", "concat", &["--weights-out", path]));
    let before = contents(folder.path());
    let line =
        format!("decode --model transformer --strategy concat --prompt 1 --steps 1 --checkpoint {path}");
    let dotted = format!("{path}/../{}", folder.path().file_name().unwrap().to_str().unwrap());
    refused(&words(&format!("{line} --weights-out {dotted}")), &["--weights-out", "replace"]);
    refused(&words(&format!("{line} --logits {dotted}/model.safetensors")), &["--logits", "replace"]);
    assert_eq!(contents(folder.path()), before);
    for file in [INDEX, SHARDS[1]] {
        let split = gpt2().split(|_| ());
        let line = format!("{} --logits {}", split.line(), split.path(file).display());
        refused(&words(&line), &["--logits", "replace", file]);
    }
    // nor over anything else that is read
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::copy(common::root().join("tests/text/tokenizer.json"), at("other.json")).unwrap();
    fs::write(at("ids"), "1 2").unwrap();
    let before = contents(folder.path());
    let line = line.replace("--prompt 1", "");
    for more in [
        "--prompt 1 --logits P/generation_config.json",
        "--prompt 1 --logits P/tokenizer.json",
        "--prompt 1 --tokenizer P/other.json --logits P/other.json",
        "--prompt-file P/ids --logits P/ids",
        "--prompt @P/ids --logits P/ids",
        "--prompt 1 --weights-out P/new --logits P/new/config.json",
    ] {
        let line = format!("{line} {}", more.replace('P', path));
        let args: Vec<&str> = line.split_whitespace().collect();
        refused(&args, &["--logits", "replace"]);
        assert_eq!(contents(folder.path()), before, "{more}");
    }
}

#[test]
#[cfg(unix)]
fn a_folder_that_may_not_be_written_to_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    let path = folder.path().join("closed");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    let path = path.display().to_string();
    if File::create(format!("{path}/probe")).is_ok() {
        return; // root writes everywhere; /proc below stands for it
    }
    decode_to(&["--logits", &format!("{path}/logits")], &[&path, "denied"]);
    decode_to(&["--weights-out", &format!("{path}/deep/er")], &[&path, "denied"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_system_that_takes_no_files_is_named() {
    decode_to(&["--logits", "/proc/logits"], &["/proc", "no file can be made"]);
    decode_to(&["--weights-out", "/proc/weights"], &["/proc", "no file can be made"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_called_one() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempdir().unwrap();
    let weights = folder.path().join("weights");
    decode_to(
        &["--logits", "/dev/full", "--weights-out", weights.to_str().unwrap()],
        &["/dev/full", "the disk is full"],
    );
    assert!(!weights.exists());
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device(), "a device is not replaced");
    for args in [&["list"][..], &["--help"], &["completions", "bash"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = std::process::Command::new(common::program()).args(args).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said, "error: standard output: the disk is full\n");
    }
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for args in [&["list"][..], &["--help"], &["completions", "zsh"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = std::process::Command::new(common::program())
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
#[cfg(unix)]
fn a_link_stays_a_link() {
    let folder = tempdir().unwrap();
    let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    decoded(&tiny("transformer", "concat", &["--logits", link.to_str().unwrap()]));
    assert!(link.is_symlink());
    assert_eq!(read_logits(&file).len(), 12);
}

// ---- checkpoints that are wrong

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// A checkpoint of the tiny shape, to be damaged.
struct Checkpoint {
    model: &'static str,
    folder: TempDir,
}

impl Checkpoint {
    fn of(model: &'static str) -> Checkpoint {
        let folder = tempdir().unwrap();
        decoded(&tiny(model, "concat", &["--weights-out", folder.path().to_str().unwrap()]));
        Checkpoint { model, folder }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn set(self, field: &str, value: Value) -> Checkpoint {
        let path = self.path("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[field] = value;
        fs::write(path, config.to_string()).unwrap();
        self
    }

    fn config(self, text: &str) -> Checkpoint {
        fs::write(self.path("config.json"), text).unwrap();
        self
    }

    fn tensors(self, change: impl Fn(&mut Tensors)) -> Checkpoint {
        let path = self.path("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let owned = |t: &TensorView| (t.dtype(), t.shape().to_vec(), t.data().to_vec());
        let mut tensors: Tensors = file.tensors().iter().map(|(name, t)| (name.clone(), owned(t))).collect();
        change(&mut tensors);
        let view = |(name, (dtype, shape, data))| (name, TensorView::new(dtype, shape, data).unwrap());
        let views = tensors
            .iter()
            .map(|(name, (dtype, shape, data))| view((name, (*dtype, shape.clone(), &data[..]))));
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
        self
    }

    /// The bytes of `model.safetensors`.
    fn bytes(self, change: impl Fn(&mut Vec<u8>)) -> Checkpoint {
        let path = self.path("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
        self
    }

    /// A header of one's own before the same numbers.
    fn header(self, change: impl Fn(&mut Value)) -> Checkpoint {
        self.bytes(|bytes| {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
            change(&mut header);
            let header = header.to_string();
            let numbers = bytes.split_off(8 + length);
            *bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &numbers].concat();
        })
    }

    /// The same tensors in two files, every second one in each, and an index of them.
    fn split(self, change: impl Fn(&mut Value)) -> Checkpoint {
        let path = self.path("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        let size: usize = tensors.iter().map(|(_, tensor)| tensor.data().len()).sum();
        let mut index = json!({"metadata": {"total_size": size}, "weight_map": {}});
        for (i, shard) in SHARDS.iter().enumerate() {
            let mine = tensors.iter().skip(i).step_by(2);
            mine.clone().for_each(|(name, _)| index["weight_map"][name] = json!(shard));
            let mine = mine.map(|(name, tensor)| (name, tensor.clone()));
            fs::write(self.path(shard), safetensors::serialize(mine, None).unwrap()).unwrap();
        }
        change(&mut index);
        fs::write(self.path(INDEX), index.to_string()).unwrap();
        fs::remove_file(path).unwrap();
        self
    }

    fn line(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "decode --model {} --checkpoint {folder} --strategy concat --prompt 1,2 --steps 2",
            self.model
        )
    }

    /// In one line, and with neither output written.
    fn refused(self, named: &[&str]) {
        let out = tempdir().unwrap();
        let to = out.path().display();
        refused(&words(&format!("{} --logits {to}/logits --weights-out {to}/w", self.line())), named);
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    }

    fn accepted(self) {
        printed(&words(&self.line()));
    }
}

fn gpt2() -> Checkpoint {
    Checkpoint::of("transformer")
}

fn fconv() -> Checkpoint {
    Checkpoint::of("linearized-conv")
}

#[test]
fn a_tensor_that_is_missing_or_misshaped_is_named_with_both_shapes() {
    let without = |name: &'static str| move |tensors: &mut Tensors| drop(tensors.remove(name));
    gpt2().tensors(without("h.1.mlp.c_fc.weight")).refused(&[
        "`h.1.mlp.c_fc.weight`",
        "missing",
        "[32, 128]",
    ]);
    fconv().tensors(without("fc2.bias")).refused(&["`fc2.bias`", "missing", "[16]"]);
    let turn = |name: &'static str| move |tensors: &mut Tensors| tensors.get_mut(name).unwrap().1.reverse();
    gpt2().tensors(turn("h.0.attn.c_attn.weight")).refused(&[
        "`h.0.attn.c_attn.weight`",
        "[96, 32]",
        "[32, 96]",
    ]);
    fconv().tensors(turn("convolutions.1.weight")).refused(&[
        "`convolutions.1.weight`",
        "[48, 24, 3]",
        "[3, 24, 48]",
    ]);
    let flat = |tensors: &mut Tensors| tensors.get_mut("wte.weight").unwrap().1 = vec![97 * 32];
    gpt2().tensors(flat).refused(&["`wte.weight`", "[3104]", "[97, 32]"]);
}

#[test]
fn tensors_of_another_type_or_of_another_model_are_named() {
    let as_type = |dtype: Dtype| {
        move |tensors: &mut Tensors| {
            let tensor = tensors.get_mut("ln_f.bias").unwrap();
            tensor.0 = dtype;
            tensor.2.truncate(32 * dtype.bitsize() / 8);
        }
    };
    gpt2().tensors(as_type(Dtype::I32)).refused(&["`ln_f.bias`", "I32"]);
    gpt2().tensors(as_type(Dtype::F8_E4M3)).refused(&["`ln_f.bias`", "F8_E4M3"]);
    let scalar = || (Dtype::F32, vec![1], vec![0; 4]);
    let extra = |name: &'static str| move |tensors: &mut Tensors| drop(tensors.insert(name.into(), scalar()));
    gpt2().tensors(extra("h.2.ln_1.weight")).refused(&["`h.2.ln_1.weight`"]);
    gpt2().tensors(extra("evil\n\u{1b}[2Jname")).refused(&["evil"]);
    gpt2().tensors(extra("transformer.wte.weight")).refused(&["wte.weight", "twice"]);
    fconv().tensors(extra("fc4.bias")).refused(&["`fc4.bias`"]);
    let head = |untied: bool| {
        move |tensors: &mut Tensors| {
            let mut head = tensors["wte.weight"].clone();
            head.2[3] ^= u8::from(untied);
            tensors.insert("lm_head.weight".into(), head);
        }
    };
    gpt2().tensors(head(false)).accepted();
    gpt2().tensors(head(true)).refused(&["`lm_head.weight`", "`wte.weight`"]);
    gpt2().tensors(extra("h.0.attn.bias")).accepted();
    gpt2().tensors(extra("transformer.h.1.attn.masked_bias")).accepted();
}

/// Numbers that bf16 and f16 have, each tensor in one of the types that are read, in one file and in two: the
/// logits are those of f32.
#[test]
fn types_and_files_of_tensors_do_not_matter() {
    let rounded = |x: f32| f16::from_f32(bf16::from_f32(x).to_f32()).to_f32();
    let numbers = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|four| rounded(f32::from_le_bytes(four.try_into().unwrap()))).collect()
    };
    let stored = |types: [Dtype; 3]| {
        gpt2().tensors(|tensors| {
            for ((dtype, _, bytes), stored) in tensors.values_mut().zip(types.iter().cycle()) {
                let in_type = |x: f32| match stored {
                    Dtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
                    Dtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
                    _ => x.to_le_bytes().to_vec(),
                };
                *bytes = numbers(bytes).into_iter().flat_map(in_type).collect();
                *dtype = *stored;
            }
        })
    };
    let logits = |checkpoint: Checkpoint| {
        let file = checkpoint.path("logits");
        printed(&words(&format!("{} --logits {}", checkpoint.line(), file.display())));
        fs::read(file).unwrap()
    };
    let want = logits(stored([Dtype::F32; 3]));
    let mixed = [Dtype::BF16, Dtype::F32, Dtype::F16];
    for types in [[Dtype::BF16; 3], [Dtype::F16; 3], mixed] {
        assert!(logits(stored(types)) == want, "{types:?}");
        assert!(logits(stored(types).split(|_| ())) == want, "{types:?}, two files");
    }
    assert!(logits(stored(mixed).split(|index| index["metadata"] = json!(null))) == want, "no total_size");
    // the one file goes before an index, as in transformers
    let both = stored(mixed);
    fs::write(both.path(INDEX), "{}").unwrap();
    assert!(logits(both) == want, "one file and an index");
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let holding = |dtype: Dtype, number: &'static [u8]| {
        move |tensors: &mut Tensors| {
            let tensor = tensors.get_mut("h.1.mlp.c_fc.bias").unwrap();
            *tensor = (dtype, vec![128], [0; 512][..128 * number.len()].to_vec());
            tensor.2[5 * number.len()..6 * number.len()].copy_from_slice(number);
        }
    };
    let cases: [(Dtype, &'static [u8], &str); 6] = [
        (Dtype::F32, &[0, 0, 0xc0, 0x7f], "NaN"),
        (Dtype::F32, &[0, 0, 0x80, 0x7f], "infinite"),
        (Dtype::BF16, &[0xc0, 0xff], "NaN"),
        (Dtype::BF16, &[0x80, 0xff], "infinite"),
        (Dtype::F16, &[1, 0x7c], "NaN"),
        (Dtype::F16, &[0, 0x7c], "infinite"),
    ];
    for (dtype, number, named) in cases {
        gpt2().tensors(holding(dtype, number)).refused(&["`h.1.mlp.c_fc.bias`", named]);
        gpt2().tensors(holding(dtype, number)).split(|_| ()).refused(&[
            SHARDS[0],
            "`h.1.mlp.c_fc.bias`",
            named,
        ]);
    }
}

#[test]
fn an_index_that_is_not_that_of_its_files_is_refused() {
    let place = |tensor: &'static str, file: &'static str| {
        move |index: &mut Value| index["weight_map"][tensor] = json!(file)
    };
    let [first, second] = SHARDS;
    gpt2().split(|_| ()).accepted();
    let missing = gpt2().split(|_| ());
    fs::remove_file(missing.path(second)).unwrap();
    missing.refused(&[second, "No such file"]);
    gpt2().split(place("ln_f.bias", "other.safetensors")).refused(&["other.safetensors", "No such file"]);
    gpt2().split(place("ln_f.bias", second)).refused(&[INDEX, "`ln_f.bias`", second, "lacks"]);
    gpt2().split(place("h.9.bias", first)).refused(&[INDEX, "`h.9.bias`", first, "lacks"]);
    let without = |index: &mut Value| drop(index["weight_map"].as_object_mut().unwrap().remove("ln_f.bias"));
    gpt2().split(without).refused(&[INDEX, "`ln_f.bias`", first, "not listed"]);
    let doubled = gpt2().split(|_| ());
    fs::copy(doubled.path(first), doubled.path(second)).unwrap();
    doubled.refused(&["`h.0.attn.c_attn.bias`", "twice", first, second]);
    for outside in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "", "a\\b"] {
        gpt2().split(place("ln_f.bias", outside)).refused(&[INDEX, "`ln_f.bias`", "no file of this folder"]);
    }
    let text = |text: &str| {
        let checkpoint = gpt2().split(|_| ());
        fs::write(checkpoint.path(INDEX), text).unwrap();
        checkpoint
    };
    text(r#"{"weight_map": {"a": "x", "b": "x", "a": "y"}}"#).refused(&[INDEX, "`a` is listed twice"]);
    text("{}").refused(&[INDEX, "weight_map"]);
    text(r#"{"weight_map": {}}"#).refused(&[INDEX, "`wpe.weight`", "missing"]);
    text(r#"{"weight_map": {"a": 1}}"#).refused(&[INDEX, "integer `1`"]);
    text(r#"{"weight_map": ["a"]}"#).refused(&[INDEX, "the name of a file for each tensor"]);
    text("[").refused(&[INDEX, "line 1"]);
    // transformers does not look at the size; it is said
    let other = gpt2().split(|index| index["metadata"]["total_size"] = json!(7));
    let output = program(&words(&other.line())).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains(INDEX) && said.contains("total_size = 7"), "{said}");
}

#[test]
fn a_file_that_is_no_safetensors_is_refused() {
    let named = ["model.safetensors"];
    gpt2().bytes(Vec::clear).refused(&["model.safetensors", "0 bytes"]);
    gpt2().bytes(|b| b.truncate(7)).refused(&["model.safetensors", "7 bytes"]);
    gpt2().bytes(|b| b.truncate(8)).refused(&named);
    gpt2().bytes(|b| b.truncate(100)).refused(&named);
    gpt2().bytes(|b| b.truncate(b.len() - 1)).refused(&["model.safetensors", "bytes of tensors"]);
    gpt2().bytes(|b| b.push(0)).refused(&["model.safetensors", "bytes of tensors"]);
    gpt2().bytes(|b| b[..8].fill(0)).refused(&named);
    gpt2().bytes(|b| b[..8].fill(0xff)).refused(&["18446744073709551615"]);
    gpt2().bytes(|b| b[..8].copy_from_slice(&99_999_999u64.to_le_bytes())).refused(&["99999999"]);
    gpt2().bytes(|b| b[8..12].fill(0xfe)).refused(&["no text"]);
    gpt2().bytes(|b| b[8..12].fill(b'[')).refused(&named);
    gpt2().bytes(|b| *b = [&100_000u64.to_le_bytes()[..], &[b'['; 100_000]].concat()).refused(&named);
    gpt2().bytes(|b| *b = [&2u64.to_le_bytes()[..], b"{}"].concat()).refused(&["`wpe.weight`", "missing"]);
}

#[test]
fn offsets_that_lie_are_refused() {
    let offsets = |name: &'static str, from: u64, to: u64| {
        move |header: &mut Value| header[name]["data_offsets"] = json!([from, to])
    };
    let named = ["model.safetensors"];
    gpt2().header(offsets("wte.weight", 0, 97 * 32 * 4)).refused(&named); // over another tensor
    gpt2().header(offsets("wte.weight", 8, 4)).refused(&named);
    gpt2().header(offsets("ln_f.bias", u64::MAX - 128, u64::MAX)).refused(&named);
    gpt2().header(offsets("ln_f.bias", 0, u64::MAX)).refused(&named);
    gpt2().header(|header| header["ln_f.bias"]["data_offsets"] = json!([-4, 4])).refused(&named);
    gpt2().header(|header| header["ln_f.bias"]["shape"] = json!([1u64 << 62, 1u64 << 62])).refused(&named);
    gpt2().header(|header| header["ln_f.bias"]["shape"] = json!([-32])).refused(&named);
    gpt2().header(|header| header["ln_f.bias"]["dtype"] = json!("F33")).refused(&["F33"]);
    gpt2().header(|header| header["ln_f.bias"] = json!(null)).refused(&named);
    gpt2().bytes(|bytes| *bytes = overflowing()).refused(&named);
}

/// A header that is in order but for where its tensors end: so far out that adding the length of
/// the header goes beyond 64 bits.
fn overflowing() -> Vec<u8> {
    let piece = 1u64 << 60;
    let tensor = |i: u64| {
        let (from, size) = (i * piece, if i < 15 { piece } else { piece - 16 });
        let to = from + size;
        format!(r#""t{i:02}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{from},{to}]}}"#)
    };
    let header = format!("{{{}}}", (0..16).map(tensor).collect::<Vec<_>>().join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 16]].concat()
}

#[test]
fn a_configuration_that_contradicts_the_tensors_is_refused() {
    gpt2().set("n_layer", json!(3)).refused(&["`h.2.ln_1.weight`", "missing", "[32]"]);
    gpt2().set("n_layer", json!(1)).refused(&["`h.1."]);
    gpt2().set("n_embd", json!(64)).refused(&["`wpe.weight`", "[64, 32]", "[64, 64]"]);
    gpt2().set("vocab_size", json!(98)).refused(&["`wte.weight`", "[97, 32]", "[98, 32]"]);
    gpt2().set("n_positions", json!(65)).refused(&["`wpe.weight`", "[64, 32]", "[65, 32]"]);
    gpt2().set("n_inner", json!(64)).refused(&["`h.0.mlp.c_fc.weight`", "[32, 128]", "[32, 64]"]);
    gpt2().set("n_inner", json!(null)).accepted();
    fconv().set("kernel", json!(4)).refused(&["`convolutions.0.weight`", "[3, 24, 48]", "[4, 24, 48]"]);
    fconv().set("embed_dim", json!(8)).refused(&["`embed_tokens.weight`", "[97, 16]", "[97, 8]"]);
    fconv().set("layers", json!(3)).refused(&["`convolutions.2.weight`", "missing"]);
    let swapped = gpt2();
    let line = swapped.line().replace("--model transformer", "--model linearized-conv");
    refused(&words(&line), &["model_type", "gpt2", "fconv_lm"]);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    gpt2().set("n_head", json!(0)).refused(&["config.json", "n_head = 0"]);
    gpt2().set("n_head", json!(5)).refused(&["config.json", "n_embd = 32", "n_head = 5"]);
    for value in
        [json!(-2), json!(2.5), json!(1e300), json!("2"), json!([2]), json!(u64::MAX), json!(1 << 21)]
    {
        gpt2().set("n_layer", value.clone()).refused(&["config.json", "n_layer = ", &value.to_string()]);
        fconv().set("channels", value).refused(&["config.json", "channels = "]);
    }
    gpt2().set("n_layer", json!(1 << 20)).refused(&["`h.2.ln_1.weight`", "missing"]); // at once
    fconv().set("layers", json!(1_000_000_000)).refused(&["layers = 1000000000"]);
    gpt2().set("n_embd", json!(null)).refused(&["n_embd = null"]);
    gpt2().set("activation_function", json!("tanh")).refused(&["activation_function", "tanh", "gelu_new"]);
    gpt2().set("layer_norm_epsilon", json!(-1e-6)).refused(&["layer_norm_epsilon"]);
    gpt2().set("tie_word_embeddings", json!(false)).refused(&["`lm_head.weight`", "missing"]);
    gpt2().set("model_type", json!("llama")).refused(&["model_type", "llama"]);
    gpt2().config("").refused(&["config.json"]);
    gpt2().config("{").refused(&["config.json", "line 1"]);
    gpt2().config("[]").refused(&["config.json"]);
    gpt2().config(r#"{"n_layer": NaN}"#).refused(&["config.json", "n_layer = \"NaN\""]);
    gpt2().config(r#"{"n_layer": nan}"#).refused(&["config.json", "line 1 column 14"]);
    fconv().config(r#"{"model_type": "fconv_lm"}"#).refused(&["config.json", "`layers` is missing"]);
    gpt2().config(&"[".repeat(100_000)).refused(&["config.json"]);
    gpt2().config(&" ".repeat(2 << 20)).refused(&["config.json", "at most 1048576"]);
}

#[test]
fn fields_that_nobody_reads_may_say_anything_and_unknown_ones_are_named() {
    let with = |fields: &str| {
        let checkpoint = gpt2();
        let text = fs::read_to_string(checkpoint.path("config.json")).unwrap();
        checkpoint.config(&text.replacen('{', &format!("{{{fields},"), 1))
    };
    with(r#""attn_pdrop": NaN, "initializer_range": -Infinity, "prefix": "\\\"NaN\"", "num_beams": 1"#)
        .accepted();
    let checkpoint = with(r#""attn_pdrop": 0.1, "logit_scale": 2, "\u001b[2J": 1"#);
    let output = program(&words(&checkpoint.line())).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.lines().count() == 1 && said.starts_with("note: "), "{said}");
    assert!(
        said.contains("config.json: ") && said.contains("logit_scale") && !said.contains("attn_pdrop"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn files_that_are_not_files_are_refused() {
    for name in ["config.json", "model.safetensors"] {
        let checkpoint = gpt2();
        fs::remove_file(checkpoint.path(name)).unwrap();
        checkpoint.refused(&[name, "No such file"]);
        let checkpoint = gpt2();
        fs::remove_file(checkpoint.path(name)).unwrap();
        fs::create_dir(checkpoint.path(name)).unwrap();
        checkpoint.refused(&[name, "directory"]);
        #[cfg(unix)]
        for device in ["/dev/zero", "/dev/null"] {
            let checkpoint = gpt2();
            fs::remove_file(checkpoint.path(name)).unwrap();
            std::os::unix::fs::symlink(device, checkpoint.path(name)).unwrap();
            checkpoint.refused(&[name, "no regular file"]);
        }
    }
    let binary = gpt2();
    fs::write(binary.path("config.json"), [0xff, 0xfe, 0]).unwrap();
    binary.refused(&["config.json", "UTF-8"]);
}

/// Nothing waits for a pipe, reads a device without an end, or takes a file of any size.
#[cfg(unix)]
#[test]
fn readers_want_a_regular_file_of_some_size() {
    let (folder, checkpoint) = (tempdir().unwrap(), gpt2());
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (pipe, run) = (place("pipe.zip"), place("run"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for no_file in ["/dev/zero", &pipe] {
        let tokenizer = format!("{} --tokenizer {no_file}", checkpoint.line());
        refused(&words(&tokenizer), &[no_file, "no regular file"]);
        refused(&["check", no_file], &[no_file, "no regular file"]);
        refused(&["import", no_file], &[no_file, "no regular file"]);
    }
    fs::create_dir(&run).unwrap();
    std::os::unix::fs::symlink(&pipe, place("run/environment.json")).unwrap();
    refused(&["report", &run], &["environment.json", "no regular file"]);

    let hole = |name: &str, bytes: u64| {
        File::create(place(name)).unwrap().set_len(bytes).unwrap();
        place(name)
    };
    let tokenizer = format!("{} --tokenizer {}", checkpoint.line(), hole("tokenizer.json", 300_000_000));
    refused(&words(&tokenizer), &["tokenizer.json", "300000000 bytes", "268435456"]);
    refused(&["check", &hole("page.md", 20_000_000)], &["page.md", "20000000 bytes", "16777216"]);
    let config = gpt2();
    File::create(config.path("config.json")).unwrap().set_len(2_000_000).unwrap();
    config.refused(&["config.json", "2000000 bytes", "1048576"]);
}

#[test]
fn a_byte_order_mark_before_json_is_passed_over() {
    let marked = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, format!("\u{feff}{text}")).unwrap();
    };
    let checkpoint = gpt2();
    marked(&checkpoint.path("config.json"));
    checkpoint.accepted();
    let run = common::root().join("results/2026-11-22T01-31-31Z-intel-xeon-2c");
    let folder = tempdir().unwrap();
    for file in ["environment.json", "samples.csv", "equality.csv", "ledger.csv"] {
        fs::copy(run.join(file), folder.path().join(file)).unwrap();
        marked(&folder.path().join(file));
    }
    let brief = |run: &Path| program(&["report", "--section", "brief"]).arg(run).output().unwrap();
    assert!(
        brief(folder.path()).status.success(),
        "{}",
        String::from_utf8_lossy(&brief(folder.path()).stderr)
    );
}

#[test]
fn weights_that_are_no_numbers_are_noticed() {
    let poison = |tensors: &mut Tensors| {
        let nan = f32::NAN.to_le_bytes();
        tensors.get_mut("ln_f.bias").unwrap().2.chunks_exact_mut(4).for_each(|x| x.copy_from_slice(&nan));
    };
    gpt2().tensors(poison).refused(&["`ln_f.bias`", "NaN"]);
    // the same bits twice are no layer of its own
    let tied = |bit: u8| {
        move |tensors: &mut Tensors| {
            let table = tensors.get_mut("wte.weight").unwrap();
            table.2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            let mut head = table.clone();
            head.2[0] ^= bit;
            tensors.insert("lm_head.weight".into(), head);
        }
    };
    gpt2().tensors(tied(0)).refused(&["`wte.weight`", "NaN"]);
    gpt2().tensors(tied(1)).refused(&["`lm_head.weight` is not `wte.weight`"]);
    // numbers so large that their product is none are noticed in the logits
    let large = |tensors: &mut Tensors| {
        let most = f32::MAX.to_le_bytes();
        tensors.get_mut("ln_f.weight").unwrap().2.chunks_exact_mut(4).for_each(|x| x.copy_from_slice(&most));
    };
    gpt2().tensors(large).refused(&["token 0", "not a number"]);
}

/// The program where the system gives a process no more than so many KiB of addresses.
#[cfg(target_os = "linux")]
fn within(kib: usize, line: &str) -> std::process::Output {
    let limited = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
    let mut command = std::process::Command::new("bash");
    command.arg("-c").arg(limited).arg(common::program()).args(words(line));
    command.env("RUST_MIN_STACK", (64 << 20).to_string()).output().unwrap() // so that few threads fill it
}

#[cfg(target_os = "linux")]
fn refused_within(kib: usize, line: &str, named: &[&str]) {
    let output = within(kib, line);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.lines().count() == 1, "{line}: {said}");
    assert!(named.iter().all(|name| said.contains(name)), "{line} should name {named:?}: {said}");
}

/// Buffers, rings and tables of positions have those of the call: a configuration that states a million costs
/// nothing, and changes no bit of the logits.
#[cfg(target_os = "linux")]
#[test]
fn memory_follows_the_call_and_not_the_configuration() {
    let out = tempdir().unwrap();
    let of_rows = &["naive", "naive-padded", "concat", "padded", "bounded", "chunked-64", "onehot"][..];
    for (model, window, start, strategies) in [
        ("llama", Value::Null, "--prompt 1,2,3", of_rows),
        ("llama", Value::from(1 << 20), "--prompt 1,2,3", &["naive", "concat", "padded"]),
    ] {
        let kind = if window.is_null() { "llama" } else { "mistral" };
        let mut checkpoint =
            Checkpoint::of(model).set("sliding_window", window).set("model_type", kind.into());
        let decode = |checkpoint: &Checkpoint, strategy: &str, rest: &str| {
            let (folder, logits) = (checkpoint.folder.path().display(), out.path().join("logits"));
            let line = format!(
                "decode --model {model} --checkpoint {folder} --strategy {strategy} --threads 1 {start} --steps 4 {rest} --logits {}",
                logits.display()
            );
            let output = within(300_000, &line);
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            (json["capacity"].as_u64().unwrap(), read_logits(&logits))
        };
        let all = |checkpoint: &Checkpoint, rest: &str| {
            strategies.iter().map(|strategy| decode(checkpoint, strategy, rest)).collect::<Vec<_>>()
        };
        let (usual, of_call) = (all(&checkpoint, "--capacity 40"), all(&checkpoint, ""));
        assert!(of_call.iter().all(|(capacity, _)| *capacity == 7), "{model} {kind}");
        checkpoint = checkpoint.set("max_position_embeddings", (1 << 20).into());
        assert!(all(&checkpoint, "--capacity 40") == usual, "{model} {kind}: other logits");
        assert!(all(&checkpoint, "") == of_call, "{model} {kind}: other logits in the call's capacity");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_the_system_does_not_give_is_one_line() {
    let checkpoint = Checkpoint::of("llama").set("max_position_embeddings", (1 << 20).into());
    let folder = checkpoint.folder.path().display();
    let line = format!("decode --model llama --checkpoint {folder} --strategy padded --steps 2 --prompt 1,2");
    refused_within(500_000, &format!("{line} --threads 64"), &["64 threads are wanted", "--threads"]);
    let million = format!("{line} --threads 1 --capacity 1048576");
    refused_within(200_000, &million, &["bytes of memory were asked for", "a smaller capacity"]);
    // more than any machine has, which is seen before anything is asked for
    let many = format!("{million} --beam 90 {}", "--prompt 1,2 ".repeat(2000));
    refused(&words(&many), &["bytes of memory, and", "are free", "a smaller capacity"]);
}

/// Loading needs the weights once, and of the file never more than a tensor.
#[test]
#[cfg(target_os = "linux")]
fn a_checkpoint_is_in_memory_once() {
    let folder = tempdir().unwrap();
    let path = folder.path().display();
    let rest = "--model transformer --prompt 1,2,3 --threads 1 --capacity 512";
    printed(&words(&format!("decode --shape base --strategy concat --steps 1 --weights-out {path} {rest}")));
    let weights = fs::metadata(folder.path().join("model.safetensors")).unwrap().len();
    let line = format!("decode --checkpoint {path} --strategy naive --steps 40 {rest}");
    let child =
        std::process::Command::new(common::program()).args(words(&line)).stdout(Stdio::null()).spawn();
    let (loaded, peak) = watched(child.unwrap());
    let program = 24 << 20; // and what a step computes in passing
    assert!(peak > weights / 2, "the watcher saw nothing");
    assert!(loaded <= weights + weights / 10 + program, "{loaded} bytes after loading {weights}");
    assert!(peak <= 2 * weights + weights / 10, "{peak} bytes at the peak of loading {weights}");
}

/// Resident bytes before the end, and the most there ever were.
#[cfg(target_os = "linux")]
fn watched(mut child: std::process::Child) -> (u64, u64) {
    let mut seen = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
        };
        seen.extend(field("VmRSS:").zip(field("VmHWM:")));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    let peak = seen.iter().map(|&(_, peak)| peak).max().unwrap_or(0);
    let mut resident: Vec<u64> = seen.iter().map(|&(resident, _)| resident).collect();
    resident.sort_unstable();
    (resident.get(resident.len() / 2).copied().unwrap_or(0), peak)
}

// ---- list, plot, report, help

#[test]
fn list_prints_ids_that_its_own_filter_finds() {
    let all = printed(&["list"]);
    assert!(all.lines().count() > 10);
    for id in all.lines() {
        id.parse::<decode_bench::case::Case>().unwrap();
    }
    let some = printed(&["list", "--filter", "toy/padded"]);
    assert!(!some.is_empty() && some.lines().all(|id| id.contains("toy/padded")));
}

/// A run that was never measured: two strategies at two positions.
fn run_folder() -> TempDir {
    use decode_bench::record::Environment;
    let folder = tempdir().unwrap();
    let environment = serde_json::to_string(&Environment::collect(1, 7)).unwrap();
    fs::write(folder.path().join("environment.json"), environment).unwrap();
    let mut csv =
        String::from("case,model,shape,strategy,backend,batch,position,metric,round,iters,value,error\n");
    for (strategy, ns) in [("naive", 900), ("concat", 400), ("padded", 500)] {
        for position in [64, 256] {
            for round in 1..6 {
                let value = ns * position + round;
                csv += &format!(
                    "transformer-toy/{strategy}/cpu/b1/t{position},transformer,toy,{strategy},cpu,1,{position},step_ns,{round},1,{value},\n"
                );
            }
        }
    }
    fs::write(folder.path().join("samples.csv"), csv).unwrap();
    folder
}

#[test]
fn plot_draws_files_and_prints_their_names() {
    let run = run_folder();
    let out = tempdir().unwrap();
    let text = printed(&["plot", run.path().to_str().unwrap(), "--out", out.path().to_str().unwrap()]);
    assert!(
        text.lines().any(|file| file.ends_with(".svg")) && text.lines().any(|file| file.ends_with(".png"))
    );
    assert!(text.lines().all(|file| fs::metadata(file).is_ok_and(|found| found.len() > 100)), "{text}");
    printed(&["plot", run.path().to_str().unwrap()]);
    assert!(run.path().join("plots").is_dir());
}

#[test]
fn a_run_to_set_against_another_must_be_one() {
    let folder = run_folder();
    let run = folder.path().to_str().unwrap();
    refused(&["plot", run, "--with", "no/such/run"], &["no/such/run: no results folder"]);
    refused(&["plot", run, "--with", run], &["no run of `compile`: it has no compile times"]);
}

#[test]
fn report_prints_tables_and_check_makes_them_again() {
    let run = run_folder();
    let run = run.path().to_str().unwrap();
    let table = printed(&["report", run]);
    assert!(table.contains("| padded |"), "{table}");
    let folder = tempdir().unwrap();
    let path = folder.path().join("page.md");
    let page = path.to_str().unwrap();
    let update = ["check", "--update", page];
    refused(&update, &["page.md", "No such file"]);
    fs::write(&path, "no markers").unwrap();
    refused(&update, &["page.md", "decode-bench:begin"]);
    refused(&["check", page], &["page.md", "no table and no citation"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "no markers");

    let block = |command: &str| {
        format!("before\n<!-- decode-bench:begin {command} -->\nold\n<!-- decode-bench:end -->\nafter\n")
    };
    fs::write(&path, block(&format!("report {run}"))).unwrap();
    differs(&["check", page], &["page.md:2: `old`"]);
    assert_eq!(printed(&update), format!("{page}: updated\n"));
    assert_eq!(printed(&update), "", "nothing differs");
    let updated = fs::read_to_string(&path).unwrap();
    assert!(
        updated.starts_with("before\n") && updated.ends_with("\nafter\n") && !updated.contains("\nold\n")
    );
    assert!(updated.contains(table.trim()));
    assert!(printed(&["check", page]).contains("page.md:2: the table follows from `report "));
    let at = updated.find(" µs").unwrap() - 1;
    fs::write(&path, format!("{}9{}", &updated[..at - 1], &updated[at..])).unwrap();
    differs(&["check", page], &["page.md:2: `"]);

    for (command, said) in [
        ("decode --model transformer", "line 2"),
        ("list", "made by `report` or `cmp`"),
        ("report 'unclosed", "a quote is not closed"),
        ("report no/such/run", "no/such/run"),
    ] {
        fs::write(&path, block(command)).unwrap();
        refused(&["check", page], &["page.md", said]);
        refused(&update, &["page.md", said]);
        assert_eq!(fs::read_to_string(&path).unwrap(), block(command));
    }
}

#[test]
fn report_writes_a_page_as_a_whole_or_not_at_all() {
    let run = run_folder();
    let run = run.path().to_str().unwrap();
    let folder = tempdir().unwrap();
    let page = folder.path().join("run.html");
    let html = ["report", run, "--html", page.to_str().unwrap()];
    assert_eq!(printed(&html), "");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"));
    assert!(text.contains(">concat</td>"));
    printed(&[&html[..], &["--filter", "naive|padded"]].concat());
    assert!(!fs::read_to_string(&page).unwrap().contains("<td class=\"\">concat</td>"));

    let before = contents(folder.path());
    refused(&[&html[..], &["--section", "brief"]].concat(), &["--html", "--section"]);
    refused(&[&html[..], &["--filter", "onehot"]].concat(), &["onehot"]);
    refused(&["report", run, "--html", folder.path().to_str().unwrap()], &["a directory"]);
    let samples = format!("{run}/samples.csv");
    refused(&["report", run, "--html", &samples], &["samples.csv", "would be lost"]);
    let nowhere = folder.path().join("none/run.html");
    refused(&["report", run, "--html", nowhere.to_str().unwrap()], &["none"]);
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn runs_that_cannot_be_read_are_refused_and_nothing_is_drawn() {
    let no_run = |change: &dyn Fn(&Path), named: &[&str]| {
        let run = run_folder();
        change(run.path());
        let before = contents(run.path());
        for verb in ["plot", "report"] {
            refused(&[verb, run.path().to_str().unwrap()], named);
        }
        let page = run.path().join("page.html");
        refused(&["report", run.path().to_str().unwrap(), "--html", page.to_str().unwrap()], named);
        assert_eq!(contents(run.path()), before);
    };
    let edit = |file: &'static str, from: &'static str, to: &'static str| {
        move |run: &Path| {
            let text = fs::read_to_string(run.join(file)).unwrap();
            assert!(text.contains(from), "{file} has no {from}");
            fs::write(run.join(file), text.replacen(from, to, 1)).unwrap();
        }
    };
    let newer = edit("environment.json", r#""format_version":1"#, r#""format_version":999"#);
    no_run(&newer, &["environment.json", "format 999"]);
    no_run(&edit("environment.json", "{", ""), &["environment.json"]);
    no_run(&|run| fs::remove_file(run.join("environment.json")).unwrap(), &["environment.json"]);
    no_run(&|run| fs::remove_file(run.join("samples.csv")).unwrap(), &["no samples"]);
    no_run(&edit("samples.csv", ",2,1,", ",2,one,"), &["samples.csv", "line 3", "iters", "`one`"]);
    no_run(&edit("samples.csv", "/padded/", "/paded/"), &["samples.csv", "line 22", "case", "paded"]);
    no_run(&edit("samples.csv", "step_ns", "stop_ns"), &["samples.csv", "line 2", "metric", "stop_ns"]);
    refused(&["plot", "/no/such/run"], &["/no/such/run"]);
    refused(&["report"], &["<RUN>"]);
    let run = run_folder();
    let file = run.path().join("samples.csv/plots");
    refused(&["plot", run.path().to_str().unwrap(), "--out", file.to_str().unwrap()], &["samples.csv"]);
}

#[test]
fn a_last_line_cut_off_is_left_out_and_said() {
    let run = run_folder();
    let path = run.path().join("samples.csv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end()).unwrap();
    let output = program(&["report", run.path().to_str().unwrap()]).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("note: ") && said.contains(": samples.csv: line 31 "), "{said}");
}

/// A table without a line for what was added would stay unnoticed.
#[test]
fn tables_of_the_documentation_are_complete() {
    let text = |name| fs::read_to_string(common::root().join(name)).unwrap();
    let (readme, commands, help) = (text("README.md"), text("docs/COMMANDS.md"), printed(&["--help"]));
    let row = |text: &str, name: &str| {
        let mut rows = text.lines().filter(|line| line.starts_with("| "));
        rows.find(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))))
            .map(String::from)
    };
    for strategy in Strategy::examples() {
        let name = strategy.to_string().replace("-64", "-c");
        assert!(row(&readme, &name).is_some(), "README.md has no row for {name}");
    }
    for &model in ModelKind::ALL {
        let in_readme =
            row(&readme, model.name()).unwrap_or_else(|| panic!("README.md has no row for {model}"));
        for shape in shapes(model) {
            assert!(in_readme.contains(&format!("`{shape}`")), "README.md names no {model}-{shape}");
        }
        assert!(row(&commands, model.name()).is_some(), "docs/COMMANDS.md has no row for {model}");
    }
    for verb in common::verbs(&help) {
        let example = [" ", "`"].iter().any(|end| commands.contains(&format!("decode-bench {verb}{end}")));
        assert!(example, "docs/COMMANDS.md has no example of {verb}");
    }
}

#[test]
fn help_has_an_example_for_every_verb_and_the_exit_codes() {
    let help = printed(&["--help"]);
    assert!(help.contains("Exit codes:") && help.contains("  1  "));
    let verbs = common::verbs(&help);
    assert!(verbs.contains(&"decode") && verbs.contains(&"report"));
    for verb in verbs {
        let help = printed(&[verb, "--help"]);
        assert!(help.contains(&format!("\n  decode-bench {verb}")), "{verb} has no example");
    }
    assert_eq!(printed(&["--version"]).trim(), format!("decode-bench {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_the_verbs_and_the_strategies() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("decode") && script.contains("strategy"), "{shell}");
    }
    assert!(printed(&["completions", "bash"]).contains("naive-padded"));
    refused(&["completions", "csh"], &["csh"]);
}

#[test]
fn a_step_that_cannot_be_timed_is_refused() {
    let step = |args: &[&'static str]| {
        let all = ["step-time", "--shape", "tiny", "--position", "6", "--threads", "1", "--samples", "2"];
        [&all[..], args].concat()
    };
    refused(&step(&["--strategy", "padded", "--pipelined"]), &["--pipelined", "cpu", "not queued"]);
    refused(&step(&["--strategy", "concat", "--backend", "cuda-graph"]), &["cannot be run", "cuda-graph"]);
    refused(&step(&["--strategy", "reprojected"]), &["transformer has no reprojected"]);
    let json: serde_json::Value = serde_json::from_str(&printed(&step(&["--strategy", "padded"]))).unwrap();
    assert_eq!((json["step_ns"].as_array().unwrap().len(), &json["emulated"]), (2, &serde_json::Value::Null));
}
