//! What the figures were measured on, and how much memory a process took.

use anyhow::Context as _;
use serde_json::{Value, json};

/// Cores, memory and what else was going on.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    cores: usize,
    memory_mb: Option<u64>,
    processor: Option<String>,
    /// Before the bench began: on a quiet machine well below 1.
    load: Option<f64>,
}

impl Machine {
    /// Looks around. What a system does not tell is not known.
    pub(crate) fn look() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory_mb = read("/proc/meminfo").and_then(|it| kilobytes(&it, "MemTotal:"));
        let memory_mb = memory_mb.map(|kb| kb / 1024).or_else(|| {
            let bytes: u64 = said("sysctl", &["-n", "hw.memsize"])?.parse().ok()?;
            Some(bytes / (1024 * 1024))
        });
        let processor = read("/proc/cpuinfo").and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let processor = processor.or_else(|| said("sysctl", &["-n", "machdep.cpu.brand_string"]));
        let load = read("/proc/loadavg");
        let load = load.and_then(|it| it.split_whitespace().next()?.parse().ok());
        Self { cores, memory_mb, processor, load }
    }

    /// What Postgres' manual recommends for `shared_buffers`: a quarter of the memory.
    pub(crate) fn shared_buffers(&self) -> String {
        const LEAST_MB: u64 = 128;
        const MOST_MB: u64 = 8 * 1024;
        let quarter = self.memory_mb.unwrap_or(0) / 4;
        format!("{}MB", quarter.clamp(LEAST_MB, MOST_MB))
    }

    /// One line.
    pub(crate) fn describe(&self) -> String {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        let memory = self.memory_mb.map_or_else(String::new, |mb| format!(", {mb} MB"));
        let load = self.load.map_or_else(String::new, |it| format!(", load before {it:.2}"));
        format!("{} cores ({processor}){memory}{load}", self.cores)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores,
            "memory_mb": self.memory_mb,
            "processor": self.processor,
            "load_before": self.load,
            "system": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
        })
    }
}

/// Lets the disk finish what was written before, so that it is not measured with what comes next.
pub(crate) async fn write_out() -> anyhow::Result<()> {
    tokio::task::spawn_blocking(nix::unistd::sync).await.context("the disk cannot be waited for")
}

/// Megabytes of memory a process took at most; on a Mac, takes now.
pub(crate) fn resident_mb(pid: u32) -> Option<f64> {
    let status = read(&format!("/proc/{pid}/status"));
    let kb = status.and_then(|it| kilobytes(&it, "VmHWM:"));
    let kb = kb.or_else(|| said("ps", &["-o", "rss=", "-p", &pid.to_string()])?.parse().ok());
    Some(f64::from(u32::try_from(kb?).ok()?) / 1024.0)
}

/// The number in a line such as `VmHWM:     12345 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok() // Not every system has it.
}

fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(args).output().ok()?; // As above.
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_are_found_by_name() {
        let text = "VmPeak:\t  200 kB\nVmHWM:\t   123 kB\n";
        assert_eq!(kilobytes(text, "VmHWM:"), Some(123));
        assert_eq!(kilobytes(text, "VmRSS:"), None);
    }

    #[test]
    fn this_process_takes_some_memory() {
        assert!(resident_mb(std::process::id()).unwrap() > 0.5);
    }
}
