//! `ledger fsck`: replays all books against the rules and says every difference.
//!
//! It reads one snapshot and may run beside a ledger that posts. Nothing is remembered from one
//! time to the next, because what was right once may have been damaged since. Differences go to
//! standard output, one a line; how far it is goes to standard error.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::{Configure, Logging, postgres};
use ledger_core::audit::VIOLATIONS_MAX;

use crate::audit::whole::{self, Progress, Whole};
use crate::{Config, MIGRATIONS};

/// The books do not balance.
const EXIT_DIFFERENCES: u8 = 1;
/// The books could not be read, so nothing is known.
const EXIT_UNREAD: u8 = 2;

/// How often the bar is drawn anew, and how often a line is written where there is no screen.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_CHARS: i64 = 30;

/// What the ledger can do beside what every service can.
#[derive(Debug, clap::Subcommand)]
#[command(about = "The ledger: the only writer of money")]
pub enum Verb {
    /// Replays all books against the rules, and ends: 0 if they balance, 1 if not, 2 if they could
    /// not be read.
    Fsck(Fsck),
}

/// What `ledger fsck` takes.
#[derive(Debug, clap::Args)]
pub struct Fsck {
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    config: Config,
}

/// Does it, and says how it ended.
#[must_use]
pub fn run(verb: Verb) -> ExitCode {
    let Verb::Fsck(Fsck { logging, config }) = verb;
    if let Err(code) = chassis::check("ledger", [logging.check(), config.check()]) {
        return code;
    }
    let ended = chassis::within("ledger", &logging, async {
        match read(&config).await {
            Ok(whole) => report(&whole),
            Err(error) => {
                tracing::error!("ledger fsck: {error:#}");
                ExitCode::from(EXIT_UNREAD)
            }
        }
    });
    ended.unwrap_or_else(|_| ExitCode::from(EXIT_UNREAD))
}

async fn read(config: &Config) -> anyhow::Result<Whole> {
    let pool = postgres::connect(&config.database_url, "ledger fsck", 1).await?;
    postgres::expect_migrated(&pool, &MIGRATIONS).await?;
    let mut bar = Bar::new();
    let whole = whole::read(&pool, &mut |progress| bar.show(progress)).await;
    bar.clear();
    let whole = whole.context("failed to read the books")?;
    let seconds = bar.began.elapsed().as_secs_f64();
    say(
        std::io::stderr(),
        &format!(
            "read {} transfers and {} accounts in {seconds:.1} s",
            whole.n_transfers, whole.n_accounts
        ),
    );
    pool.close().await;
    Ok(whole)
}

fn report(whole: &Whole) -> ExitCode {
    let mut to = std::io::stdout();
    for violation in &whole.violations {
        say(&mut to, &violation.to_string());
    }
    match whole.violations.len() {
        0 => {
            say(&mut to, "the books balance");
            ExitCode::SUCCESS
        }
        n => {
            let more = if n >= VIOLATIONS_MAX { ", and perhaps more" } else { "" };
            say(&mut to, &format!("the books do not balance: {n} differences{more}"));
            ExitCode::from(EXIT_DIFFERENCES)
        }
    }
}

/// Writes one line; a reader that has gone away is told by the exit code, if at all.
fn say(mut to: impl Write, line: &str) {
    writeln!(to, "{line}").ok();
}

/// How far it is, for whoever sits in front of it.
struct Bar {
    began: Instant,
    drawn: Option<Instant>,
    is_terminal: bool,
}

impl Bar {
    fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { began: Instant::now(), drawn: None, is_terminal }
    }

    fn show(&mut self, progress: Progress) {
        let pause = if self.is_terminal { DRAW_EVERY } else { LINE_EVERY };
        let since = self.drawn.unwrap_or(self.began);
        if since.elapsed() < pause {
            return;
        }
        self.drawn = Some(Instant::now());
        let text = describe(progress, self.began.elapsed());
        let mut screen = std::io::stderr();
        if self.is_terminal {
            // A screen that is gone needs no bar.
            write!(screen, "\r\x1b[2K{text}").and_then(|()| screen.flush()).ok();
        } else {
            say(screen, &text);
        }
    }

    fn clear(&self) {
        if self.is_terminal && self.drawn.is_some() {
            // As above.
            write!(std::io::stderr(), "\r\x1b[2K").ok();
        }
    }
}

fn describe(progress: Progress, elapsed: Duration) -> String {
    let Progress { reading, done, total } = progress;
    let of = |whole: i64| done.saturating_mul(whole).checked_div(total).unwrap_or(whole);
    let full = usize::try_from(of(BAR_CHARS)).unwrap_or(0);
    let empty = usize::try_from(BAR_CHARS.saturating_sub(of(BAR_CHARS))).unwrap_or(0);
    let left = i64::try_from(elapsed.as_millis())
        .unwrap_or(i64::MAX)
        .saturating_mul(total.saturating_sub(done))
        .checked_div(done.saturating_mul(1_000));
    let left = left.map_or_else(String::new, |it| format!(", {it} s left"));
    let (full, empty) = ("#".repeat(full), ".".repeat(empty));
    format!("[{full}{empty}] {:>3} % {reading}{left}", of(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_what_is_read_and_how_long_it_will_take() {
        let show = |done, total| {
            describe(Progress { reading: "transfers", done, total }, Duration::from_secs(3))
        };
        assert_eq!(show(0, 100), format!("[{}]   0 % transfers", ".".repeat(30)));
        let half = format!("[{}{}]  50 % transfers, 3 s left", "#".repeat(15), ".".repeat(15));
        assert_eq!(show(50, 100), half);
        assert_eq!(show(0, 0), format!("[{}] 100 % transfers", "#".repeat(30)));
    }
}
