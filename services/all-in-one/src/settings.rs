//! What `wallet dev` decides for the services; whatever the environment already says wins.
//!
//! A setting is given as the flag that clap knows beside its environment variable, so this file
//! names variables only, as `.env.example` does.

use std::ffi::OsString;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Arg, Command, CommandFactory as _, Parser};
use sandbox::servers::{Postgres, Wanted, ensure_role_and_database};
use wallet::platform::Services;

use crate::NAME;
use crate::folder::Folder;

/// The services, in the order of their settings' prefixes.
const SERVICES: [&str; 4] = ["api", "ledger", "payments", "keys"];

/// What is the same on every laptop. Paces are a laptop's: a webhook that was lost is noticed in
/// seconds, a checkout that nobody pays is given up in a quarter of an hour.
const FIXED: &[(&str, &str)] = &[
    ("KEYS_MODE", "test"),
    ("PAYMENTS_RECONCILE_FIRST_MS", "5000"),
    ("PAYMENTS_RECONCILE_LONGEST_MS", "30000"),
    ("PAYMENTS_ABANDON_AFTER_MS", "900000"),
];

/// As whom a service connects to its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Owns the schema; runs migrations and nothing else.
    Owner,
    /// May use the tables, within what the migrations granted.
    Runtime,
}

/// Every setting that has been decided so far: the variable's name and its value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    common: Vec<(String, String)>,
    owner: Vec<(String, String)>,
    runtime: Vec<(String, String)>,
}

#[derive(Debug, Parser)]
struct Whole {
    #[command(flatten)]
    services: Services,
}

impl Settings {
    /// Ports and secrets, before anything runs. Database URLs are stand-ins until
    /// [`Settings::with_databases`] says better.
    pub(crate) fn gather(folder: &Folder, port: u16, sandbox_port: u16) -> anyhow::Result<Self> {
        let mut settings = Self::default();
        for (name, value) in FIXED {
            settings.say(name, (*value).to_owned());
        }
        let origin = format!("http://127.0.0.1:{port}");
        let outside = format!("http://127.0.0.1:{sandbox_port}");
        settings.say("API_LISTEN", format!("127.0.0.1:{port}"));
        settings.say("API_ALLOWED_ORIGINS", origin.clone());
        settings.say("API_PUBLIC_URL", origin);
        settings.say("PAYSTACK_BASE_URL", format!("{outside}/paystack"));
        // A real provider knows real clients only: their id and secret must be given with it.
        if !is_set("OIDC_ISSUER") {
            let secret = folder.secret("google_client_secret", || hex::encode(random()))?;
            settings.say("API_ALLOW_TEST_CODE", "true".to_owned());
            settings.say("GOOGLE_CLIENT_ID", "sandbox-client".to_owned());
            settings.say("GOOGLE_CLIENT_SECRET", secret);
        }
        settings.say("OIDC_ISSUER", format!("{outside}/google"));

        let token_key = folder.secret("api_token_key", || STANDARD.encode(random()))?;
        settings.say("API_TOKEN_KEYS", format!("laptop:{token_key}"));
        settings.say("KEYS_SECRET", folder.secret("keys_secret", || hex::encode(random()))?);
        let paystack = || format!("sk_test_{}", hex::encode(random()));
        let paystack = folder.secret("paystack_secret_key", paystack)?;
        settings.say("PAYSTACK_SECRET_KEY", paystack);
        for service in SERVICES {
            let name = database_url(service);
            settings.owner.push((name.clone(), "postgres://not-yet".to_owned()));
            settings.runtime.push((name, "postgres://not-yet".to_owned()));
        }
        Ok(settings)
    }

    /// One database for all, as the environment wants it.
    pub(crate) fn with_database_url(mut self, url: &str) -> Self {
        self.owner = SERVICES.iter().map(|it| (database_url(it), url.to_owned())).collect();
        self.runtime.clone_from(&self.owner);
        self
    }

    /// A database of its own for each service, with an owner and a runtime role.
    pub(crate) async fn with_databases(
        mut self,
        folder: &Folder,
        postgres: &Postgres,
    ) -> anyhow::Result<Self> {
        (self.owner, self.runtime) = (Vec::new(), Vec::new());
        for service in SERVICES {
            let password = |role: &str| {
                folder.secret(&format!("{service}_{role}_password"), || hex::encode(random()))
            };
            let (owner, runtime) = (format!("{service}_owner"), service.to_owned());
            let wanted = Wanted {
                database: &format!("wallet_{service}"),
                owner: &owner,
                owner_password: &password("owner")?,
                runtime: &runtime,
                runtime_password: &password("runtime")?,
            };
            let urls = ensure_role_and_database(&postgres.admin_url(), &wanted).await?;
            let role = format!("{}_RUNTIME_ROLE", service.to_uppercase());
            self.owner.push((database_url(service), urls.owner));
            self.owner.push((role, runtime.clone()));
            self.runtime.push((database_url(service), urls.runtime));
        }
        Ok(self)
    }

    /// The services' configurations, as they would read them from their environment.
    ///
    /// # Errors
    /// The exit code for a bad configuration, after saying which setting it is.
    pub(crate) fn services(&self, role: Role) -> Result<Services, ExitCode> {
        let command = Whole::command();
        let by_role = match role {
            Role::Owner => &self.owner,
            Role::Runtime => &self.runtime,
        };
        let flags = self.common.iter().chain(by_role).filter(|(name, _)| !is_set(name));
        let flags =
            flags.filter_map(|(name, value)| Some(format!("--{}={value}", flag(&command, name)?)));
        let line = std::iter::once(NAME.to_owned()).chain(flags).map(OsString::from);
        let services = chassis::parse::<Whole>(NAME, line)?.services;
        chassis::check(NAME, services.checks()).map(|()| services)
    }

    /// What a shell needs for the services' own commands to find this platform: a line a setting.
    pub(crate) fn for_a_shell(&self, nats_url: &str) -> String {
        let nats_url = ("NATS_URL".to_owned(), nats_url.to_owned());
        let all = self.common.iter().chain(&self.runtime).chain([&nats_url]);
        let all = all.filter(|(name, _)| !is_set(name));
        let quoted = |value: &str| value.replace('\'', r"'\''");
        all.map(|(name, value)| format!("export {name}='{}'\n", quoted(value))).collect()
    }

    fn say(&mut self, name: &str, value: String) {
        self.common.push((name.to_owned(), value));
    }
}

fn database_url(service: &str) -> String {
    format!("{}_DATABASE_URL", service.to_uppercase())
}

/// Whether the environment has an answer of its own.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|it| !it.is_empty())
}

/// The flag beside an environment variable; none if no service knows it, which a test excludes.
fn flag<'a>(command: &'a Command, variable: &str) -> Option<&'a str> {
    command
        .get_arguments()
        .find(|arg| arg.get_env().is_some_and(|env| env == variable))
        .and_then(Arg::get_long)
}

fn random() -> [u8; 32] {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_decided_whatever_is_in_it() {
        let mut settings = Settings::default();
        settings.say("SECRET", "it's $HOME".to_owned());
        let text = settings.for_a_shell("nats://127.0.0.1:1");
        let script = format!("{text}printf '%s %s' \"$SECRET\" \"$NATS_URL\"");
        let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), "it's $HOME nats://127.0.0.1:1");
    }

    #[test]
    fn what_is_decided_here_is_a_configuration_that_every_service_accepts() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open(temp.path()).unwrap();
        let settings = Settings::gather(&folder, 8000, 8090).unwrap();
        let settings = settings.with_database_url("postgres://somewhere/db");
        for role in [Role::Owner, Role::Runtime] {
            assert!(settings.services(role).is_ok(), "{role:?}");
        }
        let command = Whole::command();
        for (name, _) in settings.common.iter().chain(&settings.runtime) {
            assert!(flag(&command, name).is_some(), "no service knows {name}");
        }
    }
}
