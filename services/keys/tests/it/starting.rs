//! The binary refuses to start with what nobody should run, before it opens anything.

use std::process::{Command, Output};

use crate::harness::{NEXT_SECRET, SECRET};

/// Checks the configuration with these settings changed; an empty one is left out.
fn check_config(verb: &str, changes: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keys"));
    command.arg(verb).env_clear();
    let settings = [
        ("ADMIN_ADDRESS", "127.0.0.1:0"),
        ("NATS_URL", "nats://127.0.0.1:1"),
        ("KEYS_DATABASE_URL", "postgres://nobody:hunter2@127.0.0.1:1/keys"),
        ("KEYS_SECRET", SECRET),
        ("KEYS_SECRET_PREVIOUS", NEXT_SECRET),
        ("KEYS_MODE", "test"),
    ];
    command.envs(settings.into_iter().chain(changes.iter().copied()));
    for (name, _) in changes.iter().filter(|(_, value)| value.is_empty()) {
        command.env_remove(name);
    }
    command.output().unwrap()
}

#[test]
fn a_good_configuration_is_accepted() {
    for changes in [&[][..], &[("KEYS_SECRET_PREVIOUS", "")], &[("KEYS_MODE", "live")]] {
        let output = check_config("check-config", changes);
        assert_eq!(output.status.code(), Some(0), "{changes:?}: {output:?}");
    }
}

#[test]
fn a_bad_configuration_exits_with_64_and_names_the_setting_only() {
    for (name, value) in [
        ("KEYS_SECRET", ""),
        ("KEYS_SECRET", "hunter2"),
        ("KEYS_SECRET", "hunter2-change-me-change-me-change-me-change-me"),
        ("KEYS_SECRET_PREVIOUS", "hunter2"),
        ("KEYS_MODE", ""),
        ("KEYS_MODE", "hunter2"),
        ("KEYS_DATABASE_URL", ""),
        ("KEYS_DATABASE_CONNECTIONS_MAX", "3"),
        ("KEYS_DATABASE_CONNECTIONS_MAX", "hunter2"),
        ("NATS_URL", "hunter2"),
    ] {
        for verb in ["check-config", "serve"] {
            let output = check_config(verb, &[(name, value)]);
            let said = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
            let said = said.join("");
            assert_eq!(output.status.code(), Some(64), "{verb} {name}={value}: {said}");
            assert!(said.contains(name) && !said.contains("hunter2"), "{verb} {name}: {said}");
            assert!(!said.contains(SECRET), "{said}");
        }
    }
}
