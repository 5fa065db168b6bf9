//! The same small command line for every service: `serve`, `migrate`, `check-config`, and what one
//! of them can do besides.
//!
//! A bad configuration ends the process with 64 before anything is opened. What is said names the
//! setting and never its value: clap's own messages quote values, so they are not used.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::process::{self, EXIT_CONFIG};
use crate::{Config, Context, Logging, nats};

/// A service's settings.
pub trait Configure: Args + Clone + Send + 'static {
    /// Refuses what cannot work: one sentence that names the setting and never its value.
    ///
    /// # Errors
    /// That sentence.
    fn check(&self) -> Result<(), String>;
}

#[derive(Parser)]
struct Cli<C: Args, V: Subcommand> {
    #[command(subcommand)]
    verb: Verb<C, V>,
}

#[derive(Subcommand)]
enum Verb<C: Args, V: Subcommand> {
    /// Runs until SIGTERM or SIGINT.
    Serve(Serve<C>),
    /// Brings the schema up to this release, and ends.
    Migrate(Migrate<C>),
    /// Checks the configuration, and ends: 0 when it is good, 64 when not.
    CheckConfig(Serve<C>),
    #[command(flatten)]
    Own(V),
}

#[derive(Args)]
struct Serve<C: Args> {
    #[command(flatten)]
    process: Config,
    #[command(flatten)]
    service: C,
}

#[derive(Args)]
struct Migrate<C: Args> {
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    service: C,
}

/// A whole `main`: parses, checks, and runs one service.
pub fn main<C, M, S>(
    name: &'static str,
    migrate: fn(C) -> M,
    serve: fn(C, Context) -> S,
) -> ExitCode
where
    C: Configure,
    M: Future<Output = anyhow::Result<()>>,
    S: Future<Output = anyhow::Result<()>>,
{
    main_with::<C, Infallible, M, S>(name, migrate, serve, |none| match none {})
}

/// As [`main`], for a service with verbs of its own: `own` does them.
pub fn main_with<C, V, M, S>(
    name: &'static str,
    migrate: fn(C) -> M,
    serve: fn(C, Context) -> S,
    own: fn(V) -> ExitCode,
) -> ExitCode
where
    C: Configure,
    V: Subcommand,
    M: Future<Output = anyhow::Result<()>>,
    S: Future<Output = anyhow::Result<()>>,
{
    let verb = match parse::<Cli<C, V>>(name, std::env::args_os()) {
        Ok(cli) => cli.verb,
        Err(code) => return code,
    };
    match verb {
        Verb::Serve(settings) => {
            match check(name, [settings.process.check(), settings.service.check()]) {
                Ok(()) => serve_one(name, settings, serve),
                Err(code) => code,
            }
        }
        Verb::Migrate(settings) => {
            match check(name, [settings.logging.check(), settings.service.check()]) {
                Ok(()) => process::once(name, &settings.logging, async {
                    migrate(settings.service).await?;
                    tracing::info!("{name}: the schema is this release's");
                    Ok(())
                }),
                Err(code) => code,
            }
        }
        Verb::CheckConfig(settings) => {
            match check(name, [settings.process.check(), settings.service.check()]) {
                Ok(()) => {
                    say(std::io::stdout(), &format!("{name}: the configuration is complete"));
                    ExitCode::SUCCESS
                }
                Err(code) => code,
            }
        }
        Verb::Own(verb) => own(verb),
    }
}

fn serve_one<C, S>(name: &'static str, settings: Serve<C>, serve: fn(C, Context) -> S) -> ExitCode
where
    C: Configure,
    S: Future<Output = anyhow::Result<()>>,
{
    let nats_url = settings.process.nats_url.clone();
    process::run(name, settings.process, move |process| async move {
        let client = nats::connect(nats_url.expose(), name).await.context("failed to start")?;
        let shutdown = process.shutdown();
        serve(settings.service, process.context(name, client)).await?;
        if !shutdown.is_cancelled() {
            bail!("serving ended although nobody asked it to");
        }
        Ok(())
    })
}

/// Writes every refusal to standard error.
///
/// # Errors
/// The exit code, 64, when there was one.
pub fn check(
    name: &str,
    checks: impl IntoIterator<Item = Result<(), String>>,
) -> Result<(), ExitCode> {
    let refusals: Vec<String> = checks.into_iter().filter_map(Result::err).collect();
    for refusal in &refusals {
        say(std::io::stderr(), &format!("{name}: {refusal}"));
    }
    if refusals.is_empty() { Ok(()) } else { Err(ExitCode::from(EXIT_CONFIG)) }
}

/// Reads a command line. For programs with verbs of their own; [`main`] does it for a service.
///
/// # Errors
/// The exit code, when help was asked for (0) or a setting is missing or cannot be read (64); what
/// is to be said has been said.
pub fn parse<P: CommandFactory + FromArgMatches>(
    name: &'static str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<P, ExitCode> {
    let command = hide_values(P::command().name(name).bin_name(name));
    let parsed = command
        .clone()
        .try_get_matches_from(args)
        .and_then(|mut matches| P::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| {
        let kind = error.kind();
        if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            say(std::io::stdout(), error.render().to_string().trim_end());
            return ExitCode::SUCCESS;
        }
        if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            say(std::io::stderr(), error.render().to_string().trim_end());
            return ExitCode::from(EXIT_CONFIG);
        }
        for line in explain(&command, &error) {
            say(std::io::stderr(), &format!("{name}: {line}"));
        }
        ExitCode::from(EXIT_CONFIG)
    })
}

/// `--help` must not print what is in the environment.
fn hide_values(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(hide_values)
}

/// clap's error without the values: which setting, and what is wrong with it.
fn explain(command: &Command, error: &clap::Error) -> Vec<String> {
    let named: Vec<String> = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => vec![setting(command, name)],
        Some(ContextValue::Strings(names)) => {
            names.iter().map(|name| setting(command, name)).collect()
        }
        Some(_) | None => Vec::new(),
    };
    let what = if error.kind() == ErrorKind::MissingRequiredArgument {
        "is missing".to_owned()
    } else if error.kind() == ErrorKind::UnknownArgument {
        "is not a setting".to_owned()
    } else {
        let why = reason(error).map_or_else(String::new, |why| format!(": {why}"));
        format!("cannot be read{why}")
    };
    if named.is_empty() {
        return vec![format!("the command line {what}; see --help")];
    }
    named.into_iter().map(|name| format!("{name} {what}")).collect()
}

/// Why a value was refused, unless the reason quotes it.
fn reason(error: &clap::Error) -> Option<String> {
    if let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue) {
        return Some(format!("it must be one of {}", valid.join(", ")));
    }
    let why = std::error::Error::source(error)?.to_string();
    match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) if !value.is_empty() && why.contains(value.as_str()) => {
            None
        }
        Some(_) | None => Some(why),
    }
}

/// A setting by its environment variable if it has one: that is how it is set in production.
fn setting(command: &Command, shown: &str) -> String {
    let Some(flag) = shown.split(['=', ' ']).next().filter(|flag| flag.starts_with('-')) else {
        return "an argument".to_owned();
    };
    let env = all_args(command)
        .into_iter()
        .find(|arg| arg.get_long() == flag.strip_prefix("--"))
        .and_then(|arg| arg.get_env().map(|env| env.to_string_lossy().into_owned()));
    env.map_or_else(|| flag.to_owned(), |env| format!("{env} ({flag})"))
}

fn all_args(command: &Command) -> Vec<&clap::Arg> {
    let below = command.get_subcommands().flat_map(all_args);
    command.get_arguments().chain(below).collect()
}

/// Writes one line; a closed pipe is nobody's concern here.
fn say(mut to: impl Write, line: &str) {
    drop(writeln!(to, "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[derive(Debug, Clone, clap::Args)]
    #[group(id = "sample")]
    struct Sample {
        #[arg(id = "sample_port", long = "sample-port", value_name = "PORT")]
        port: u16,
        #[arg(
            id = "sample_key",
            long = "sample-key",
            env = "CHASSIS_TEST_SAMPLE_KEY",
            value_name = "KEY"
        )]
        key: Secret,
    }

    impl Configure for Sample {
        fn check(&self) -> Result<(), String> {
            if self.key.expose().len() < 8 {
                Err("the key is too short".to_owned())
            } else {
                Ok(())
            }
        }
    }

    const GOOD: &[&str] =
        &["x", "serve", "--nats-url", "nats://u:p@h", "--admin-address", "127.0.0.1:0"];

    fn explained(more: &[&str]) -> String {
        let command = hide_values(Cli::<Sample, Infallible>::command());
        let args = GOOD.iter().chain(more);
        let error = command.clone().try_get_matches_from(args).expect_err("should be refused");
        explain(&command, &error).join("; ")
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::<Sample, Infallible>::command().debug_assert();
    }

    #[derive(Debug, Subcommand)]
    enum Own {
        /// Checks it.
        Check,
    }

    #[test]
    fn a_service_has_verbs_of_its_own_beside_those_of_all() {
        Cli::<Sample, Own>::command().debug_assert();
        let parsed =
            |args: &[&str]| parse::<Cli<Sample, Own>>("x", args.iter().map(OsString::from));
        assert!(matches!(parsed(&["x", "check"]).unwrap().verb, Verb::Own(Own::Check)));
        let more = ["--sample-key", "k", "--sample-port", "1"];
        let serve: Vec<&str> = GOOD.iter().copied().chain(more).collect();
        assert!(matches!(parsed(&serve).unwrap().verb, Verb::Serve(_)));
        assert!(parsed(&["x", "other"]).is_err());
    }

    #[test]
    fn a_refusal_names_the_setting_and_never_its_value() {
        let cases: &[(&[&str], &str)] = &[
            (&["--sample-key", "k"], "--sample-port is missing"),
            (&["--sample-port", "1"], "CHASSIS_TEST_SAMPLE_KEY (--sample-key) is missing"),
            (
                &["--sample-key", "k", "--sample-port", "hunter2"],
                "--sample-port cannot be read: invalid digit found in string",
            ),
            (
                &["--sample-key", "k", "--sample-port", "1", "--log-format", "hunter2"],
                "LOG_FORMAT (--log-format) cannot be read: it must be one of json, pretty",
            ),
            (
                &["--sample-key", "k", "--sample-port", "1", "--nope=hunter2"],
                "--nope is not a setting",
            ),
            (
                &["--sample-key", "k", "--sample-port", "1", "hunter2"],
                "an argument is not a setting",
            ),
        ];
        for (more, said) in cases {
            assert_eq!(explained(more), *said, "{more:?}");
        }
    }

    #[test]
    fn a_parsed_configuration_shows_no_secret() {
        let args = GOOD.iter().chain(&["--sample-key", "hunter2hunter2", "--sample-port", "1"]);
        let cli = parse::<Cli<Sample, Infallible>>("x", args.map(OsString::from)).unwrap();
        let Verb::Serve(settings) = cli.verb else { panic!("serve was asked for") };
        assert!(settings.service.check().is_ok() && settings.process.check().is_ok());
        let shown = format!("{:?} {:?}", settings.process, settings.service);
        assert!(!shown.contains("hunter2") && !shown.contains("u:p"), "{shown}");
    }
}
