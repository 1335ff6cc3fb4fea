//! What the command line refuses before it does anything: in which form, by which name, and with which exit code.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test")]

use std::process::{Command, Output};

use rstest::rstest;

const STORE: &str = "--store=file:///nowhere";

fn vouchsafe(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vouchsafe"));
    command.args(words).env_remove("VOUCHSAFE_LOG");
    command
}

fn run(words: &[&str]) -> Output {
    vouchsafe(words).output().unwrap()
}

/// The failure's reason, message and hint, of JSON on standard output.
#[track_caller]
fn failure(output: &Output) -> [String; 3] {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
    ["reason", "message", "hint"].map(|field| document["failure"][field].as_str().unwrap().to_owned())
}

#[rstest]
#[case::unknown_flag(&["list", "--stroe", "file:///x", "--output", "json"], "--stroe", "vouchsafe list --help")]
#[case::tip(&["unlock", STORE, "--forse", "--output=json"], "--forse", "--force")]
#[case::missing(&["restore", STORE, "--output", "json"], "--target", "usage: vouchsafe restore")]
#[case::bare_heartbeat(&["list", STORE, "--heartbeat", "10", "--output", "json"], "`10` is not a duration like `30s`", "--help")]
#[case::bare_deadline(&["backup", STORE, "--source=x", "--deadline", "90", "--output", "json"], "--deadline", "--help")]
#[case::no_size(&["backup", STORE, "--source=x", "--span-size", "much", "--output", "json"], "--span-size", "--help")]
#[case::no_number(&["verify", "newest", STORE, "--output", "json"], "newest", "vouchsafe verify --help")]
#[case::no_command(&["--output", "json", "backpu"], "backpu", "backup")]
#[case::no_log(&["--log", "loud", "--output", "json", "version"], "\"loud\" is no level", "--help")]
#[case::no_log_level(&["--log", "vouchsafe=loud", "--output", "json", "version"], "--log", "--help")]
fn a_malformed_command_line_is_a_failure_like_any_other(
    #[case] words: &[&str],
    #[case] names: &str,
    #[case] hints: &str,
) {
    let output = run(words);
    let [reason, message, hint] = failure(&output);
    assert_eq!((output.status.code(), &*reason), (Some(2), "Usage"), "{output:?}");
    assert!(message.contains(names) && !message.contains("error:"), "{message}");
    assert!(hint.contains(hints), "{hint}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn without_json_it_is_the_three_lines_of_every_failure() {
    let output = run(&["list", "--stroe", "x", "--", "--output=json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let starts: Vec<&str> = said.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(starts, ["error", "reason", "hint"], "{said}");
}

#[test]
fn help_and_version_are_no_failures() {
    for words in [&["--help"][..], &["--version"], &["backup", "--help"], &["--output=json", "list", "-h"]] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!output.stdout.is_empty(), "{words:?}");
    }
}

#[rstest]
#[case("debug")]
#[case("warn,vouchsafe=debug")]
#[case("vouchsafe::store[request{key=a}]=trace,off")]
fn filters_of_logs_are_taken(#[case] filter: &str) {
    assert_eq!(run(&["--log", filter, "version"]).status.code(), Some(0));
}

#[test]
fn a_filter_from_the_environment_is_refused_by_name() {
    let output = vouchsafe(&["version"]).env("VOUCHSAFE_LOG", "verbose").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("VOUCHSAFE_LOG"), "{output:?}");
}

#[test]
fn an_empty_folder_is_no_collection_and_an_absent_one_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let output = run(&["list", "--store", &url]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("there is no collection at {url}")), "{said}");

    let output = run(&["list", "--store", &url, "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), listed), (Some(0), serde_json::json!({"runs": []})));
    assert!(!output.stderr.is_empty());

    let output = run(&["list", "--store", &format!("{url}/absent"), "--output", "json"]);
    let [reason, message, hint] = failure(&output);
    assert_eq!((output.status.code(), &*reason), (Some(1), "NoSuchBucket"), "{output:?}");
    assert!(message.contains("absent") && hint.contains("--store"), "{message} {hint}");
}

#[test]
fn unlocking_where_no_run_is_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let output = run(&["unlock", "--store", &url]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("no run is open: there is no run at file://")
    );
    let output = run(&["unlock", "--store", &url, "--run", "7", "--output", "json"]);
    assert_eq!((output.status.code(), &*failure(&output)[0]), (Some(1), "NoBackup"));
}

/// Who came by flags is told flags; who came by a file, its fields.
#[test]
fn a_hint_names_settings_as_its_reader_wrote_them() {
    let output = run(&["list", "--store=file:///nowhere/at/all", "--output=json"]);
    assert!(failure(&output)[2].contains("--store"), "{output:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.yaml");
    let text = "apiVersion: vouchsafe.dev/v1alpha1
kind: BackupStore
metadata: {name: disk}
spec: {destinations: [{name: one, default: true, file: {path: /nowhere/at/all}}]}
---
apiVersion: vouchsafe.dev/v1alpha1
kind: Backup
metadata: {name: shop}
spec:
  storeRef: {name: disk}
  source: {postgres: {database: shop, endpoints: [{name: one, host: 127.0.0.1, tls: {mode: Disable}}]}}
";
    std::fs::write(&file, text).unwrap();
    let mut command = vouchsafe(&["run", "--output=json", "-f"]);
    let output = command.arg(&file).env("PGUSER", "nobody").env("HOME", folder.path()).output().unwrap();
    let [reason, _, hint] = failure(&output);
    assert_eq!((&*reason, output.status.code()), ("NoSuchBucket", Some(1)), "{output:?}");
    assert!(hint.contains("spec.destinations") && !hint.contains("--"), "{hint}");
}

#[test]
fn a_file_that_is_no_yaml_is_refused_by_name_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.yaml");
    std::fs::write(&file, "kind: Backup\nspec:\n  a: [1, 2\n  b: 3\n").unwrap();
    let output = run(&["run", "-f", file.to_str().unwrap(), "--output=json"]);
    let [_, message, _] = failure(&output);
    assert_eq!(output.status.code(), Some(2));
    let place = format!("{}: the file is not YAML: line ", file.display());
    assert!(message.starts_with(&place) && message.contains(", column "), "{message}");

    let object = "apiVersion: vouchsafe.dev/v1alpha1\nkind: Backup\nmetadata: {name: shop}\nspec:\n  storeRef: {name: disk}
  source: {postgres: {database: shop, endpoints: [{name: one, hots: a, host: b}]}}\n";
    std::fs::write(&file, object).unwrap();
    let output = run(&["run", "-f", file.to_str().unwrap(), "--output=json"]);
    let [_, message, _] = failure(&output);
    assert!(message.contains("spec.source.postgres.endpoints[one].hots"), "{message}");
    assert!(message.contains(&file.display().to_string()), "{message}");
}

/// The commands of a text, each as the words that a shell makes of it: lines that begin with `vouchsafe`, with those
/// that a backslash joins.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| line.starts_with("vouchsafe "));
    let words = |line: &str| {
        // What the next program of a pipe makes of it is not looked at.
        let line = line.trim_end_matches('|');
        // The words alone: nothing is run, redirected or piped.
        let script =
            format!("vouchsafe() {{ printf '%s\\0' vouchsafe \"$@\" >&3; }}; {{ {line}\n}} 3>&1 >&2");
        let script = script.replace(" > /", " | cat #/");
        let output = Command::new("sh").args(["-c", &script]).env("STORE", "file:///x").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    };
    lines.map(words).collect()
}

#[track_caller]
fn must_parse(text: &str, least: usize) {
    let commands = commands(text);
    assert!(commands.len() >= least, "{commands:?}");
    for words in commands {
        let parsed = vouchsafe::cli::parse(words.iter().map(Into::into));
        assert!(words.len() > 1 && parsed.is_ok(), "{words:?}");
    }
}

#[rstest]
#[case("", 4)]
#[case("backup", 3)]
#[case("restore", 3)]
#[case("run", 2)]
#[case("list", 2)]
#[case("show", 2)]
#[case("verify", 2)]
#[case("diff", 2)]
#[case("unlock", 2)]
#[case("completions", 1)]
fn examples_of_help_are_right_and_fit_a_terminal(#[case] subcommand: &str, #[case] least: usize) {
    let words: Vec<&str> = [subcommand, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
    let help = String::from_utf8(run(&words).stdout).unwrap();
    must_parse(&help, least);
    let (_, after) = help.split_once("Output:").unwrap();
    let examples = after.lines().skip_while(|line| line.starts_with(' ') || !line.ends_with(':'));
    let wide: Vec<&str> = examples.filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "a terminal of 80 columns would break these: {wide:?}");
}

#[test]
fn commands_in_the_documentation_are_right() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let mut all = String::new();
    for page in pages.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(page).unwrap();
        for block in text.split("```sh\n").skip(1) {
            all.push_str(block.split("```").next().unwrap());
        }
    }
    must_parse(&all, 15);
}

#[test]
fn the_file_of_the_page_about_run_is_taken() {
    let page = include_str!("../docs/run.md");
    let yaml = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let yaml = yaml.replace("/var/backups/shop", "/nowhere/at/all");
    let file = folder.path().join("shop.yaml");
    std::fs::write(&file, yaml).unwrap();
    for name in ["Backup/shop-1", "Restore/shop-back"] {
        let output = run(&["run", "-f", file.to_str().unwrap(), "--name", name, "--output=json"]);
        // All of it is right but for the folder, which is looked for last.
        assert_eq!(failure(&output)[0], "NoSuchBucket", "{output:?}");
    }
}

/// What README's first command shows, from its first step to its last; each step checks itself, and names its
/// failure.
#[test]
fn the_demo_shows_damage_by_place_refuses_it_and_compares() {
    let output = run(&["demo", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(shown["rows"].as_u64().unwrap() >= 1_000_000, "{shown}");
    let damages = shown["damaged"]["damages"].as_array().unwrap();
    let flipped =
        damages.iter().find(|damage| damage["offsets"].is_array()).unwrap_or_else(|| panic!("{shown}"));
    assert!(flipped["table"].is_string() && flipped["object"].is_string(), "{shown}");
    assert!(damages.iter().any(|damage| damage["finding"].as_str().unwrap().contains("missing")), "{shown}");
    assert!(shown["refusal"].as_str().unwrap().contains("the target was not touched"), "{shown}");
    assert_eq!(
        (&shown["damaged"]["proven"], &shown["backup"]["outcome"]),
        (&false.into(), &"Succeeded".into())
    );
    assert!(
        shown["tablesEqual"].as_u64() == shown["backup"]["tables"].as_u64() && shown["tablesEqual"].is_u64()
    );
}

#[rstest]
#[case::verify(&["verify", "0", STORE, "--output", "json"])]
#[case::show(&["show", "0", STORE, "--output", "json"])]
#[case::restore(&["restore", STORE, "--run", "0", "--target", "postgres://x/y", "--output", "json"])]
#[case::unlock(&["unlock", STORE, "--run", "0", "--output", "json"])]
fn runs_begin_at_one(#[case] words: &[&str]) {
    let output = run(words);
    let [reason, message, _] = failure(&output);
    assert_eq!((output.status.code(), &*reason), (Some(2), "Usage"), "{output:?}");
    assert!(message.contains('0') && message.contains("1.."), "{message}");
}
