//! What strings stand for: templates, and secrets that nobody gets to see.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Surroundings of a test's own.
#[derive(Default)]
struct Around {
    variables: BTreeMap<&'static str, OsString>,
    host: Option<&'static str>,
}

impl Surroundings for Around {
    fn variable(&self, name: &str) -> Option<OsString> {
        let value = self.variables.get(name).cloned();
        value.filter(|value| !value.is_empty())
    }

    fn host_name(&self) -> Option<String> {
        self.host.map(str::to_owned)
    }
}

impl Around {
    fn host(name: &'static str) -> Self {
        Self {
            host: Some(name),
            ..Self::default()
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name, value.into());
        self
    }
}

/// A stream whose callback has this id, with these fields on top and in the buffer.
fn text(top: &str, id: &str, buffer: &str) -> String {
    format!(
        r#"{{{top}"streams":[{{"name":"s","sink":{{"type":"callback",
"id":{id}}},"buffer":{{{buffer}}}}}]}}"#
    )
}

fn id(config: &Config) -> &str {
    match &config.streams[0].sinks[0].kind {
        SinkKind::Callback(id) => id.reveal(),
        other => panic!("{other:?}"),
    }
}

fn id_in(around: &Around, top: &str, id_json: &str) -> String {
    let config = Config::from_json_in(&text(top, id_json, ""), around);
    id(&config.unwrap_or_else(|error| panic!("{id_json}: {error}"))).to_owned()
}

fn refused(around: &Around, document: &str) -> String {
    let error = Config::from_json_in(document, around).unwrap_err();
    assert_eq!(error.code(), Code::Config);
    error.to_string()
}

/// `G-015`: the order in which a name is looked up.
#[test]
fn templates_are_resolved_from_vars_then_the_environment_then_the_host() {
    let around = Around::host("box-3")
        .with("AWS_IOT_THING_NAME", "thing-5")
        .with("SITE", "north/1");
    let vars = r#""vars":{"ThingName":"v-7","Hostname":"{SITE}","A.b-c_1":"","env":"x"},"#;
    for (top, template, expected) in [
        ("", "{ThingName}", "thing-5"),
        (vars, "{ThingName}", "v-7"),
        ("", "{Hostname}", "box-3"),
        // What a template stands for is not looked into again.
        (vars, "{Hostname}", "{SITE}"),
        ("", "{env:SITE}", "north/1"),
        (vars, "<{A.b-c_1}>", "<>"),
        (
            r#""vars":{"ComponentName":"c"},"#,
            "a{ComponentName}{ComponentName}z",
            "accz",
        ),
        ("", "{{ThingName}}", "{ThingName}"),
        ("", "{{{ThingName}}}{{", "{thing-5}{"),
        ("", "ä{Hostname}ß", "äbox-3ß"),
        ("", r"\u007bHostname\u007d", "box-3"),
        ("", "", ""),
    ] {
        assert_eq!(
            id_in(&around, top, &format!("\"{template}\"")),
            expected,
            "{template}"
        );
    }
    // Nobody else knows the thing's name.
    let (around, document) = (Around::host("box-3"), text("", "\"{ThingName}\"", ""));
    let config = Config::from_json_in(&document, &around).unwrap();
    assert_eq!(id(&config), "box-3");
    assert!(
        config.warnings()[0].starts_with("{ThingName}: neither in"),
        "{:?}",
        config.warnings()
    );
}

/// `G-015`: paths and every string of a sink, but neither type nor name.
#[test]
#[cfg(all(feature = "file", feature = "stdout"))]
fn templates_stand_in_paths_and_in_all_strings_of_a_sink() {
    let around = Around::host("box-3").with("F", "raw").with("N", "never");
    let document = r#"{"dataDir":"/d/{Hostname}","runDir":"/r/{env:F}","streams":[
        {"name":"a","sink":{"type":"file","path":"{env:F}/{Hostname}.out","format":"{env:F}","fsync":"{env:N}",
         "startAt":"{env:S}"}},
        {"name":"b","sink":{"type":"stdout","format":"{env:F}"},"buffer":{"path":"/x/{Hostname}"}}]}"#;
    let config = Config::from_json_in(document, &around.with("S", "newest")).unwrap();
    assert_eq!(config.store_path("a").unwrap().to_str(), Some("/d/box-3/a"));
    assert_eq!(config.store_path("b").unwrap().to_str(), Some("/x/box-3"));
    assert_eq!(config.run_dir.as_deref().unwrap().to_str(), Some("/r/raw"));
    assert!(config.streams[0].sinks[0].starts_newest);
    let SinkKind::File(file) = &config.streams[0].sinks[0].kind else {
        panic!("no file");
    };
    assert_eq!(file.path.reveal(), "raw/box-3.out");
    assert_eq!(
        (file.format, file.sync),
        (crate::sink::lines::LineFormat::Raw, false)
    );
    let SinkKind::Stdout(stdout) = &config.streams[1].sinks[0].kind else {
        panic!("no standard output");
    };
    assert_eq!(stdout.format, crate::sink::lines::LineFormat::Raw);
    for field in [r#""type":"{env:F}""#, r#""type":"none","name":"{env:F}""#] {
        let document = format!(r#"{{"streams":[{{"name":"a","sink":{{{field}}}}}]}}"#);
        let text = refused(&Around::default().with("F", "none"), &document);
        assert!(text.contains(r#""{env:F}": must be "#), "{text}");
    }
}

#[test]
fn a_template_that_stands_for_nothing_is_an_error_with_its_place() {
    let around = Around::default()
        .with("EMPTY", "")
        .with("BYTES", OsString::from_vec(vec![0xff]));
    let lone = "has no counterpart: a template is {Name}, and a brace itself is written twice";
    for (value, rule) in [
        ("{Hostname}", "{Hostname}: the host has no name".to_owned()),
        ("{ThingName}", "{Hostname}: the host has no name".to_owned()),
        (
            "{ComponentName}",
            "{ComponentName}: nothing knows it but \"vars\", where it is missing".to_owned(),
        ),
        (
            "{env:EMPTY}",
            "{env:EMPTY}: not in the environment, or empty there".to_owned(),
        ),
        (
            "{env:BYTES}",
            "BYTES: in the environment, but not as text".to_owned(),
        ),
        (
            "a{}",
            "{}: neither in \"vars\" nor ThingName, ComponentName, Hostname or env:NAME".to_owned(),
        ),
        ("a{", format!("\"{{\" {lone}")),
        ("{Hostname", format!("\"{{\" {lone}")),
        ("a}b", format!("\"}}\" {lone}")),
        ("{{a}", format!("\"}}\" {lone}")),
    ] {
        let told = refused(&around, &text("", &format!("\"{value}\""), ""));
        assert_eq!(told, format!("2:6 streams[0].sink.id \"{value}\": {rule}"));
    }
    let told = refused(&around, &text("", "\"\"", r#""path":"{env:EMPTY}""#));
    assert!(told.starts_with("2:27 streams[0].buffer.path "), "{told}");
    // What becomes of a path is checked as well.
    let told = refused(
        &around,
        &text(r#""vars":{"A":""},"#, "\"\"", r#""path":"{A}""#),
    );
    assert!(told.ends_with(r#" "{A}": must be a path"#), "{told}");
}

/// `L-66`: templates make no more of a document than a bound says.
#[test]
fn variables_are_bounded_and_one_that_is_not_used_is_worth_a_look() {
    let vars = |count: usize| {
        let vars: Vec<_> = (0..count).map(|n| format!("\"v{n}\":\"\"")).collect();
        format!("\"vars\":{{{}}},", vars.join(","))
    };
    let around = Around::default();
    let config = Config::from_json_in(&text(&vars(resolve::VARS_MAX), "\"{v7}\"", ""), &around);
    let warnings = config.unwrap().warnings().to_vec();
    assert_eq!(warnings.len(), resolve::VARS_MAX - 1);
    assert!(warnings.contains(&"vars.v8: no template uses it".to_owned()));
    let told = refused(&around, &text(&vars(resolve::VARS_MAX + 1), "\"\"", ""));
    assert!(told.ends_with(": at most 256 variables"), "{told}");
    for (bad, rule) in [
        (
            r#""a b":"x""#,
            "vars.a b \"x\": the name of a variable must be",
        ),
        (r#""":"x""#, " \"x\": the name of a variable must be"),
        (r#""a":5"#, "vars.a 5: must be a string"),
        (r#""a":null"#, "vars.a null: must be a string"),
        (r#""a":{"b":"c"}"#, r#"vars.a {"b":"c"}: must be a string"#),
    ] {
        let told = refused(&around, &text(&format!("\"vars\":{{{bad}}},"), "\"\"", ""));
        assert!(told.contains(rule), "{told}");
    }
    let long = format!("\"vars\":{{\"a\":\"{}\"}},", "x".repeat(1000));
    let made = id_in(&around, &long, &format!("\"{}\"", "{a}".repeat(65)));
    assert_eq!(made.len(), 65_000);
    let told = refused(
        &around,
        &text(&long, &format!("\"{}\"", "{a}".repeat(1_000_000)), ""),
    );
    assert!(
        told.ends_with(": its templates make more than 65536 bytes") && told.len() < 250,
        "{told}"
    );
}

/// A directory of secrets, gone when the test ends.
struct Secrets(PathBuf);

impl Secrets {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>, mode: u32) {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn top(&self) -> String {
        format!("\"secretsDir\":{},", json::quoted(self.0.to_str().unwrap()))
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SECRET: &str = "hunter2-ä";

/// `G-016`: where it is looked for, what of the file it is, and that it does not show.
#[test]
fn a_secret_is_read_from_its_file_and_never_shown() {
    let (own, system) = (Secrets::new("own"), Secrets::new("system"));
    own.put("both", SECRET, 0o600);
    own.put("line", format!("{SECRET}\n"), 0o400);
    own.put("lines", format!("{SECRET}\n\n"), 0o600);
    own.put("dos", format!("{SECRET}\r\n"), 0o600);
    own.put("long", "x".repeat(65536), 0o600);
    system.put("both", "another", 0o400);
    system.put("granted", SECRET, 0o440);
    let around = Around::default().with("CREDENTIALS_DIRECTORY", &system.0);
    let reference = |name: &str| format!("{{\"$secret\":\"{name}\"}}");
    for (top, name, expected) in [
        (own.top(), "both", SECRET.to_owned()),
        (own.top(), "line", SECRET.to_owned()),
        (own.top(), "lines", format!("{SECRET}\n")),
        (own.top(), "dos", SECRET.to_owned()),
        (own.top(), "long", "x".repeat(65536)),
        (own.top(), "granted", SECRET.to_owned()),
        (String::new(), "both", "another".to_owned()),
    ] {
        assert_eq!(id_in(&around, &top, &reference(name)), expected, "{name}");
    }
    // Braces in it mean nothing, and what it becomes a part of is as secret.
    own.put("braces", "{ThingName}}", 0o600);
    assert_eq!(
        id_in(&around, &own.top(), &reference("braces")),
        "{ThingName}}"
    );
    let top = own.top() + r#""vars":{"Token":{"$secret":"line"}},"#;
    let config = Config::from_json_in(&text(&top, "\"a-{Token}\"", ""), &around).unwrap();
    assert_eq!(id(&config), format!("a-{SECRET}"));
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    for shown in [
        format!("{config:?} {config:#?}"),
        format!("{:?}", config.memory()),
        config.to_json(),
    ] {
        assert!(
            !shown.contains("hunter2") && !shown.contains("a-"),
            "{shown}"
        );
    }
    assert!(config.to_json().contains("\"id\": \"***\""));
}

/// `G-016`: every way in which it goes wrong, with its place.
#[test]
fn what_is_wrong_with_a_secret_is_told_without_it() {
    let own = Secrets::new("wrong");
    own.put("open", SECRET, 0o644);
    own.put("group", SECRET, 0o640);
    own.put("bytes", [SECRET.as_bytes(), b"\xff"].concat(), 0o600);
    own.put("long", SECRET.repeat(10_000), 0o600);
    own.put("empty", "\n", 0o600);
    own.put("nul", format!("{SECRET}\0"), 0o600);
    own.put("good", SECRET, 0o600);
    std::fs::create_dir(own.0.join("folder")).unwrap();
    let around = Around::default();
    let dir = own.0.display();
    for (name, rule) in [
        (
            "open",
            format!("{dir}/open: its mode is 0644, and must be 0600 or stricter"),
        ),
        (
            "group",
            format!("{dir}/group: its mode is 0640, and must be 0600 or stricter"),
        ),
        ("bytes", format!("{dir}/bytes: not text")),
        ("long", format!("{dir}/long: it has more than 65536 bytes")),
        ("empty", format!("{dir}/empty: empty")),
        ("folder", format!("{dir}/folder: not a regular file")),
        ("gone", format!("there is no {dir}/gone")),
        ("a/b", "must be the name of a file".to_owned()),
        ("..", "must be the name of a file".to_owned()),
        ("", "must be the name of a file".to_owned()),
    ] {
        let told = refused(
            &around,
            &text(&own.top(), &format!("{{\"$secret\":\"{name}\"}}"), ""),
        );
        assert_eq!(
            told,
            format!("2:17 streams[0].sink.id.$secret \"{name}\": {rule}")
        );
    }
    let good = r#"{"$secret":"good"}"#;
    let told = refused(&around, &text("", good, ""));
    let rule = "neither \"secretsDir\" nor $CREDENTIALS_DIRECTORY says where secrets are";
    assert!(told.ends_with(rule), "{told}");
    let vars =
        |value: &str| own.top() + &format!("\"vars\":{{\"A\":{{\"$secret\":\"{value}\"}}}},");
    for (document, rule) in [
        (
            text(&own.top(), r#"{"$secret":5}"#, ""),
            "$secret 5: must be a string",
        ),
        (
            text(&own.top(), r#"{"$secret":"good","x":1}"#, ""),
            "sink.id.x: is not known here",
        ),
        (text(&own.top(), "{}", ""), "id {}: must be a string"),
        (
            text(&vars("open"), "\"\"", ""),
            "its mode is 0644, and must be 0600 or stricter",
        ),
        (
            text(&own.top(), "\"\"", &format!("\"path\":{good}")),
            "must be a path without secrets: it is shown",
        ),
        (
            text(&vars("good"), "\"\"", "\"path\":\"/data/{A}\""),
            "must be a path without secrets: it is shown",
        ),
        (
            text(&vars("nul"), "\"\"", "\"path\":\"/data/{A}\""),
            "must be a path",
        ),
        (
            text(&own.top(), "\"\"", "").replace("\"callback\"", good),
            r#"must be "none" or "callback" or "file" or "stdout" or "kinesis" or "kafka""#,
        ),
        (
            text(&own.top(), "\"\"", "").replace("\"s\"", good),
            "secrets may stand in sinks and in \"vars\" only",
        ),
        (
            text(&own.top(), &format!("\"\",\"startAt\":{good}"), ""),
            r#"must be "oldest" or "newest""#,
        ),
    ] {
        let told = refused(&around, &document);
        assert!(told.ends_with(rule), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}
