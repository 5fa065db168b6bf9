//! What the service is told by its environment, and what it refuses to start with.

use chassis::Secret;

use crate::key::Mode;
use crate::secret::{Derivation, KEYS_SECRET_BYTES_MIN};

/// Parts of secrets that are printed in documents and examples; whoever can read can use them.
const KNOWN_DEFAULTS: &[&str] = &[
    "secret",
    "change",
    "default",
    "example",
    "password",
    "placeholder",
    "keys_secret",
    "0123456789",
];

/// Settings of the keys service.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "keys")]
pub struct Config {
    /// Where keys are kept.
    #[arg(
        id = "keys_database_url",
        long = "keys-database-url",
        env = "KEYS_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: String,
    /// Most connections to that database; two are held by the loops that read and announce.
    #[arg(
        id = "keys_database_connections_max",
        long = "keys-database-connections-max",
        env = "KEYS_DATABASE_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(4..=1_000)
    )]
    pub database_connections_max: u32,
    /// The role that `migrate` lets use the tables; none when it is the owner itself.
    #[arg(
        id = "keys_runtime_role",
        long = "keys-runtime-role",
        env = "KEYS_RUNTIME_ROLE",
        value_name = "ROLE"
    )]
    pub runtime_role: Option<String>,
    /// At least 32 random bytes, from which the key that answers an idempotent request is derived.
    #[arg(
        id = "keys_secret",
        long = "keys-secret",
        env = "KEYS_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub secret: Secret,
    /// The secret before this one; repeats of requests made under it are still answered.
    #[arg(
        id = "keys_secret_previous",
        long = "keys-secret-previous",
        env = "KEYS_SECRET_PREVIOUS",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub secret_previous: Option<Secret>,
    /// What new keys begin with: `sk_test_` or `sk_live_`.
    #[arg(
        id = "keys_mode",
        long = "keys-mode",
        env = "KEYS_MODE",
        value_name = "MODE",
        value_enum
    )]
    pub mode: Mode,
}

impl chassis::Configure for Config {
    fn check(&self) -> Result<(), String> {
        if self.database_url.is_empty() {
            return Err("KEYS_DATABASE_URL must not be empty".to_owned());
        }
        check_secret("KEYS_SECRET", &self.secret)?;
        self.secret_previous.as_ref().map_or(Ok(()), |it| check_secret("KEYS_SECRET_PREVIOUS", it))
    }
}

impl Config {
    pub(crate) fn derivation(&self) -> Derivation {
        Derivation { current: self.secret.clone(), previous: self.secret_previous.clone() }
    }
}

/// Refuses a secret that is short, or so simple or so well known that it is none.
fn check_secret(setting: &str, secret: &Secret) -> Result<(), String> {
    let text = secret.expose();
    if text.len() < KEYS_SECRET_BYTES_MIN {
        return Err(format!("{setting} is shorter than {KEYS_SECRET_BYTES_MIN} bytes"));
    }
    let lower = text.to_ascii_lowercase();
    if KNOWN_DEFAULTS.iter().any(|known| lower.contains(known)) {
        return Err(format!(
            "{setting} looks like a known default; make one: openssl rand -hex 32"
        ));
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.sort_unstable();
    bytes.dedup();
    if bytes.len() < 8 {
        return Err(format!("{setting} repeats itself; make one: openssl rand -hex 32"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chassis::Configure;
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        config: Config,
    }

    const GOOD: &str = "9f2d1c0b7a6e5d4c3b2a19080706f5e4d3c2b1a0918273645566778899aabbcc";

    fn config(secret: &str, previous: Option<&str>) -> Config {
        let mut args = vec!["keys", "--keys-database-url=postgres://x", "--keys-mode=test"];
        let (secret, previous) = (
            format!("--keys-secret={secret}"),
            previous.map(|it| format!("--keys-secret-previous={it}")),
        );
        args.push(&secret);
        args.extend(previous.as_deref());
        Args::try_parse_from(args).unwrap().config
    }

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_secret_that_is_none_is_refused_by_its_name_only() {
        assert_eq!(config(GOOD, None).check(), Ok(()));
        assert_eq!(config(GOOD, Some(GOOD)).check(), Ok(()));
        for bad in [
            "",
            "tiny",
            &GOOD[..31],
            &"a".repeat(64),
            &"abcabc1".repeat(9),
            "please-CHANGE-me-before-you-go-to-production",
            "your-secret-key-your-secret-key-your-key",
        ] {
            let no = config(bad, None).check().unwrap_err();
            assert!(no.starts_with("KEYS_SECRET "), "{no}");
            assert!(bad.is_empty() || !no.contains(bad), "{no}");
            let no = config(GOOD, Some(bad)).check().unwrap_err();
            assert!(no.starts_with("KEYS_SECRET_PREVIOUS "), "{no}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        assert!(!format!("{:?}", config(GOOD, Some(GOOD))).contains(&GOOD[..8]));
    }
}
