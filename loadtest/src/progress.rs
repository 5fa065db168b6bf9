//! What the person in front of the screen sees meanwhile: a bar on a terminal, else a line a step.
//!
//! The bar follows the clock: each step says how long it expects to take.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(250);
const BAR_CHARS: u32 = 30;
/// What a step may reach before it is over.
const NEARLY: f64 = 0.98;

/// The bar.
pub(crate) struct Progress {
    began: Instant,
    is_terminal: bool,
    /// Seconds that all steps together expect to take.
    expected_s: f64,
    done_s: f64,
}

impl Progress {
    /// A bar for steps that will take about `expected` together.
    pub(crate) fn new(expected: Duration) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let expected_s = expected.as_secs_f64().max(1.0);
        Self { began: Instant::now(), is_terminal, expected_s, done_s: 0.0 }
    }

    /// Does one step, which is expected to take that long.
    pub(crate) async fn step<T>(
        &mut self,
        label: &str,
        expected: Duration,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let expected_s = expected.as_secs_f64().max(0.1);
        let mut ticks = tokio::time::interval(DRAW_EVERY);
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                _ = ticks.tick() => {
                    let part = (began.elapsed().as_secs_f64() / expected_s).min(NEARLY);
                    self.draw(label, part * expected_s);
                }
            }
        };
        self.done_s += expected_s;
        if !self.is_terminal {
            let took_s = began.elapsed().as_secs_f64();
            self.line(&format!("{:>6}  {label} ({took_s:.1} s)", clock(self.began.elapsed())));
        }
        done
    }

    /// Says something that stays on the screen.
    pub(crate) fn say(&self, text: &str) {
        self.clear();
        self.line(&format!("{:>6}  {text}", clock(self.began.elapsed())));
    }

    /// Wipes the bar, for what is printed instead.
    pub(crate) fn clear(&self) {
        if self.is_terminal {
            // A screen that is gone needs no bar.
            write!(std::io::stderr(), "\r\x1b[2K").ok();
        }
    }

    fn line(&self, text: &str) {
        writeln!(std::io::stderr(), "{text}").ok(); // As above.
    }

    fn draw(&self, label: &str, step_s: f64) {
        if !self.is_terminal {
            return;
        }
        let part = ((self.done_s + step_s) / self.expected_s).clamp(0.0, NEARLY);
        let bar = bar(part);
        let percent = part * 100.0;
        let at = clock(self.began.elapsed());
        let drawn = format!("\r\x1b[2K{at:>6}  [{bar}] {percent:>3.0} %  {label}");
        let mut screen = std::io::stderr();
        screen.write_all(drawn.as_bytes()).and_then(|()| screen.flush()).ok(); // As above.
    }
}

fn bar(part: f64) -> String {
    let is_full = |n: u32| f64::from(n) < part * f64::from(BAR_CHARS);
    (0..BAR_CHARS).map(|n| if is_full(n) { '#' } else { '.' }).collect()
}

/// Minutes and seconds.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_from_the_left() {
        assert_eq!(bar(0.0), ".".repeat(30));
        assert_eq!(bar(0.5), format!("{}{}", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(1.0), "#".repeat(30));
    }

    #[test]
    fn a_clock_shows_minutes() {
        assert_eq!(clock(Duration::from_secs(61)), "1:01");
    }
}
